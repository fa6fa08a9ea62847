//! Bad input: a clear error that names what is wrong and what would be right, and nothing left behind.

use std::process::Command;

use netloft_tests::running::{Finished, Running};
use netloft_tests::{Lab, programs};

use crate::support::create_blue;

/// What a command that cannot even be meant exits with, as the argument parser does.
const USAGE: i32 = 2;
const FAILURE: i32 = 1;

pub(crate) fn what_cannot_be_meant_is_refused() {
    let lab = Lab::new();
    let long = "a".repeat(300);
    let name_rule = "must be 1 to 63 characters of a-z, 0-9 and '-'";
    let number_rule = "must be a number from 1 to 65535";
    let run = ["run", "--network", "blue", "--name", "web"];
    let cases: [(&[&str], &[&str], [&str; 3]); 12] = [
        (&["network", "create"], &[&long], ["network name", "(of 300 bytes)", name_rule]),
        (
            &["run", "--network", "blue", "--name"],
            &[&long, "--", "true"],
            ["--name", "(of 300 bytes)", name_rule],
        ),
        (&run, &["--sandbox", &long, "--", "true"], ["--sandbox", "sandbox name", name_rule]),
        (
            &run,
            &["--interface", "sixteencharacter", "--", "true"],
            ["--interface", "\"sixteencharacter\"", "1 to 15"],
        ),
        (&run, &["--port", "0", "--", "true"], ["--port", "port \"0\"", number_rule]),
        (&run, &["--port", "65536", "--", "true"], ["--port", "port \"65536\"", number_rule]),
        (&run, &["--port", "1", "--weight", "0", "--", "true"], ["--weight", "weight \"0\"", number_rule]),
        (
            &run,
            &["--colour", "red", "--", "true"],
            ["--colour", "unexpected argument", "For more information"],
        ),
        (&run, &["--address", "10.89.0.0/33", "--", "true"], ["--address", "10.89.0.0/33", "invalid"]),
        (&["network", "create", "blue", "--mtu"], &["100"], ["--mtu", "MTU \"100\"", "from 1280 to 65535"]),
        (
            &["network", "create", "blue", "--subnet"],
            &["10.89.0.1/24"],
            ["--subnet", "10.89.0.1/24", "10.89.0.0/24?"],
        ),
        (
            &["resolve", "--registry"],
            &["127.0.0.1:7400"],
            ["--registry", "target", "must be https://HOST:PORT, http://HOST:PORT"],
        ),
    ];
    refuse_what_cannot_be_meant(&lab, &cases);
    for program in ["netloftd", "registry-server"] {
        let ended = Running::spawn(lab.ours(program, &["--colour", "red"])).wait();
        assert!(complaint(&ended, USAGE).contains("unexpected argument '--colour'"), "{ended:?}");
    }
    lab.finish();
}

pub(crate) fn what_cannot_be_meant_of_an_attachment_is_refused() {
    let lab = Lab::new();
    let run = ["run", "--network", "blue", "--name", "web"];
    let cases: [(&[&str], &[&str], [&str; 3]); 14] = [
        (
            &run,
            &["--publish", "80:", "--", "true"],
            ["--publish", "published port \"80:\"", "PORTS[/PROTOCOL]"],
        ),
        (&run, &["--publish", "0", "--", "true"], ["--publish", "published port \"0\"", "PORTS[/PROTOCOL]"]),
        (
            &run,
            &["--publish", "8000-8001:80", "--", "true"],
            ["--publish", "\"8000-8001:80\"", "as many ports at the host"],
        ),
        (
            &run,
            &["--publish", "80/icmp", "--", "true"],
            ["--publish", "protocol \"icmp\"", "tcp, udp or sctp"],
        ),
        (&run, &["--mac", "01:00:00:00:00:01", "--", "true"], ["--mac", "MAC address", "unicast"]),
        (
            &run,
            &["--route", "10.0.0.0/8 via here", "--", "true"],
            ["--route", "next hop \"here\"", "IP address"],
        ),
        (&run, &["--route", "10.0.0.1/8", "--", "true"], ["--route", "subnet \"10.0.0.1/8\"", "10.0.0.0/8?"]),
        (&run, &["--bandwidth-in", "20m", "--", "true"], ["--bandwidth-in", "rate \"20m\"", "as in 20M"]),
        (&run, &["--bandwidth-out", "1k", "--", "true"], ["--bandwidth-out", "rate \"1k\"", "from 8000 up"]),
        (&run, &["--sysctl", "net.x", "--", "true"], ["--sysctl", "net.x", "must be KEY=VALUE"]),
        (&run, &["--dns", "dns.example", "--", "true"], ["--dns", "dns.example", "invalid IP address"]),
        (
            &run,
            &["--route-metric", "1", "--no-default-route", "--", "true"],
            ["--route-metric", "cannot be used with", "--no-default-route"],
        ),
        (
            &["attach", "blue", "web"],
            &["--port", "80"],
            ["required arguments", "--service", "netloft attach"],
        ),
        (
            &["network", "create", "blue"],
            &["--driver", "macvlan"],
            ["required arguments", "--parent", "netloft network create"],
        ),
    ];
    refuse_what_cannot_be_meant(&lab, &cases);
    lab.finish();
}

/// Each case is a command, what is wrong with it, and what the complaint says: in its first line, whence it comes.
fn refuse_what_cannot_be_meant(lab: &Lab, cases: &[(&[&str], &[&str], [&str; 3])]) {
    for (command, arguments, parts) in cases {
        let ended = lab.netloft(&[*command, arguments].concat());
        let text = complaint(&ended, USAGE);
        assert!(parts.iter().all(|part| text.contains(part)), "{arguments:?}: {text}");
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("error: ") && first.contains(parts[0]), "{arguments:?}: {text}");
    }
}

pub(crate) fn what_cannot_be_done_is_refused() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let overlapping = ["network", "create", "green", "--subnet", "10.89.0.128/25"];
    let both = ["network", "create", "green", "--subnet", "10.90.0.0/24", "--subnet", "10.91.0.0/24"];
    let beyond = ["network", "create", "green", "--subnet", "10.90.0.0/24", "--gateway", "10.91.0.1"];
    let run = |network, more: &[&'static str]| {
        [&["run", "--network", network, "--name", "job"], more, &["--", "true"]].concat()
    };
    let cases: [(Vec<&str>, &[&str]); 9] = [
        (
            overlapping.to_vec(),
            &["network green", "10.89.0.128/25 overlaps 10.89.0.0/24 of network blue", "choose"],
        ),
        (both.to_vec(), &["network green", "10.90.0.0/24 and 10.91.0.0/24", "one of each family"]),
        (beyond.to_vec(), &["gateway \"10.91.0.1\"", "must lie in a subnet"]),
        (vec!["network", "create", "blue"], &["network blue exists", "choose another name"]),
        (vec!["network", "rm", "green"], &["no network green"]),
        (run("green", &[]), &["sandbox job", "no network green", "create it"]),
        (
            run("blue", &["--address", "10.1.1.1"]),
            &["address 10.1.1.1 is in no subnet of network blue", "choose"],
        ),
        (run("blue", &["--address", "10.89.0.1"]), &["address 10.89.0.1"]),
        (run("blue", &["--interface", "lo"]), &["sandbox job", " lo "]),
    ];
    refuse_what_cannot_be_done(&lab, &cases);
    let status = lab.json(&["status"]);
    let text =
        single_line(&lab.netloft(&["run", "--network", "blue", "--name", "job", "--", "no-such-program"]));
    assert!(text.contains("cannot start no-such-program"), "{text}");
    assert_eq!(without_revision(lab.json(&["status"])), without_revision(status));

    // A sandbox is unique on its host; the one that is there stays.
    let mut first = lab.spawn(&[
        "run",
        "--network",
        "blue",
        "--name",
        "job",
        "--",
        "sh",
        "-c",
        "echo up; exec sleep 600",
    ]);
    first.line("up");
    let status = lab.json(&["status"]);
    let text = single_line(&lab.netloft(&run("blue", &[])));
    assert!(text.contains("sandbox job"), "{text}");
    let text = single_line(&lab.netloft(&["network", "rm", "blue"]));
    assert!(text.contains("network blue is in use") && text.contains("detach first"), "{text}");
    assert_eq!(lab.json(&["status"]), status);
    first.kill();
    agent.stop();
    lab.finish();
}

pub(crate) fn what_cannot_be_done_for_an_attachment_is_refused() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let create = |more: &[&'static str]| [&["network", "create", "green"], more].concat();
    let run = |more: &[&'static str]| {
        [&["run", "--network", "blue", "--name", "job"], more, &["--", "true"]].concat()
    };
    let cases: [(Vec<&str>, &[&str]); 10] = [
        (create(&["--driver", "bridge", "--parent", "lo"]), &["a bridge shares no link", "no --parent"]),
        (
            create(&["--driver", "macvlan", "--parent", "lo", "--bridge", "br0"]),
            &["macvlan has no bridge", "no --bridge"],
        ),
        (create(&["--driver", "macvlan", "--parent", "lo"]), &["network green needs a subnet"]),
        (create(&["--bridge", "nl-blue"]), &["bridge nl-blue belongs to network blue", "choose"]),
        (
            run(&["--sysctl", "kernel.hostname=job"]),
            &["sandbox job", "sysctl \"kernel.hostname\"", "below net."],
        ),
        (
            run(&["--route", "10.0.0.0/8 via 10.1.1.1"]),
            &["route \"10.0.0.0/8 via 10.1.1.1\"", "next hop in the subnet"],
        ),
        (
            run(&["--dns-search", "a\nnameserver 10.6.6.6"]),
            &["DNS search domain \"a\\nnameserver", "without spaces"],
        ),
        (run(&["--dns-option", ""]), &["DNS option \"\"", "1 to 253"]),
        (run(&["--publish", "0.0.0.0:80:80"]), &["address \"0.0.0.0\"", "one host"]),
        (vec!["attach", "blue", "job", "--netns", "/no/such/netns"], &["sandbox job", "/no/such/netns"]),
    ];
    refuse_what_cannot_be_done(&lab, &cases);
    agent.stop();
    lab.finish();
}

/// Each case is a command, and what its one line of complaint says. Nothing is left behind of any.
fn refuse_what_cannot_be_done(lab: &Lab, cases: &[(Vec<&str>, &[&str])]) {
    let (status, traces) = (lab.json(&["status"]), lab.traces());
    for (command, parts) in cases {
        let text = single_line(&lab.netloft(command));
        assert!(parts.iter().all(|part| text.contains(part)), "{command:?}: {text}");
        assert_eq!(without_revision(lab.json(&["status"])), without_revision(status.clone()), "{command:?}");
        assert_eq!(lab.traces(), traces, "{command:?}");
    }
}

pub(crate) fn files_that_cannot_be_used_are_refused() {
    let lab = Lab::new();
    let sandbox = "[[sandbox]]\nname = \"a\"\nnetwork = \"n\"\ncommand = [\"true\"]\n";
    let file = |name: &str, text: &str| lab.file(name, text).to_str().unwrap().to_owned();
    let cases: [(String, &[&str]); 8] = [
        ("/no/such/file".to_owned(), &["cannot read /no/such/file", "No such file"]),
        ("/".to_owned(), &["cannot read /", "Is a directory"]),
        (file("malformed", "[network"), &["malformed is not a scenario", "TOML parse error"]),
        (file("orphan", sandbox), &["orphan is not a scenario", "sandbox a: there is no network n"]),
        (
            file("port", &format!("[network.n]\n{sandbox}service = {{ name = \"a\", port = 65536 }}\n")),
            &["port \"65536\""],
        ),
        (
            file("field", &format!("[network.n]\ncolour = \"red\"\n{sandbox}")),
            &["unknown field `colour`", "line 2"],
        ),
        (
            file("publish", &format!("[network.n]\n{sandbox}publish = [\"80:\"]\n")),
            &["published port \"80:\""],
        ),
        (file("internal", &format!("[network.n]\ninternal = \"yes\"\n{sandbox}")), &["boolean", "line 2"]),
    ];
    for (path, parts) in cases {
        let text = complaint(&lab.netloft(&["up", &path]), FAILURE);
        assert!(
            text.starts_with("netloft: ") && parts.iter().all(|part| text.contains(part)),
            "{path}: {text}"
        );
    }
    let config = file("config", "sokcet = \"/tmp/x\"");
    for program in ["netloftd", "registry-server"] {
        for (path, part) in
            [("/no/such/file", "cannot read /no/such/file"), (&config, "unknown field `sokcet`")]
        {
            let ended = Running::spawn(lab.ours(program, &["--config", path])).wait();
            assert!(complaint(&ended, USAGE).contains(part), "{ended:?}");
        }
    }
    lab.finish();
}

pub(crate) fn an_exhausted_subnet_is_refused_until_there_is_room() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    lab.netloft(&["network", "create", "tiny", "--subnet", "10.99.0.0/30"]).success();
    let run = ["run", "--network", "tiny", "--name"];
    let mut first = lab.spawn(&[&run[..], &["a", "--", "sh", "-c", "echo up; exec sleep 600"]].concat());
    first.line("up");
    let (status, traces) = (lab.json(&["status"]), lab.traces());
    let text = single_line(&lab.netloft(&[&run[..], &["b", "--", "true"]].concat()));
    assert!(text.contains("sandbox b") && text.contains("10.99.0.0/30"), "{text}");
    assert_eq!((lab.json(&["status"]), lab.traces()), (status, traces));
    first.stop();
    lab.netloft(&[&run[..], &["b", "--", "true"]].concat()).success();
    agent.stop();
    lab.finish();
}

pub(crate) fn a_server_that_is_not_there_is_named() {
    let lab = Lab::new();
    let socket = lab.path("netloftd.sock").display().to_string();
    let run = ["run", "--network", "blue", "--name", "web", "--", "true"];
    let nobody = "http://127.0.0.1:1";
    let cases: [(&[&str], &str); 11] = [
        (&["network", "ls"], &socket),
        (&run, &socket),
        (&["attach", "blue", "web"], &socket),
        (&["detach", "web"], &socket),
        (&["endpoints"], &socket),
        (&["doctor"], &socket),
        (&["gc"], &socket),
        (&["status"], &socket),
        (&["services"], &socket),
        (&["resolve", "--registry", nobody], nobody),
        (&["watch", "--registry", nobody], nobody),
    ];
    for (command, target) in cases {
        let text = single_line(&lab.netloft(command));
        assert!(text.contains(target) && text.contains("not available"), "{command:?}: {text}");
    }
    lab.finish();
}

pub(crate) fn an_agent_without_privilege_says_what_it_lacks() {
    let lab = Lab::new();
    let agent = lab.ours("netloftd", &["--socket", lab.path("netloftd.sock").to_str().unwrap()]);
    for (powers, lack) in [("-net_admin", "CAP_NET_ADMIN"), ("-sys_admin", "CAP_SYS_ADMIN")] {
        let mut weak = Command::new(programs::tool("setpriv"));
        weak.args(["--bounding-set", powers, "--inh-caps", powers])
            .arg(agent.get_program())
            .args(agent.get_args());
        let text = single_line(&Running::spawn(weak).wait());
        assert!(text.contains(lack) && text.contains("needs root, or --private"), "{text}");
    }
    lab.finish();
}

fn without_revision(mut status: serde_json::Value) -> serde_json::Value {
    status["registry"]["revision"].take();
    status
}

/// What a command said that failed, as it should, with this code.
fn complaint(ended: &Finished, code: i32) -> String {
    assert_eq!(ended.code(), Some(code), "{ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended.stderr.clone()
}

/// The same, if it is a single line.
fn single_line(ended: &Finished) -> String {
    let text = complaint(ended, FAILURE);
    assert_eq!(text.lines().count(), 1, "{ended:?}");
    text
}
