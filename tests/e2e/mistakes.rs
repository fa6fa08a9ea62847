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
            ["--registry", "target", "must be http://HOST:PORT"],
        ),
    ];
    for (command, arguments, parts) in cases {
        let ended = lab.netloft(&[command, arguments].concat());
        let text = complaint(&ended, USAGE);
        assert!(parts.iter().all(|part| text.contains(part)), "{arguments:?}: {text}");
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("error: ") && first.contains(parts[0]), "{arguments:?}: {text}");
    }
    for program in ["netloftd", "registry-server"] {
        let ended = Running::spawn(lab.ours(program, &["--colour", "red"])).wait();
        assert!(complaint(&ended, USAGE).contains("unexpected argument '--colour'"), "{ended:?}");
    }
    lab.finish();
}

pub(crate) fn what_cannot_be_done_is_refused() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let (status, traces) = (lab.json(&["status"]), lab.traces());
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
    for (command, parts) in cases {
        let text = single_line(&lab.netloft(&command));
        assert!(parts.iter().all(|part| text.contains(part)), "{command:?}: {text}");
        assert_eq!(without_revision(lab.json(&["status"])), without_revision(status.clone()), "{command:?}");
        assert_eq!(lab.traces(), traces, "{command:?}");
    }
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

pub(crate) fn files_that_cannot_be_used_are_refused() {
    let lab = Lab::new();
    let sandbox = "[[sandbox]]\nname = \"a\"\nnetwork = \"n\"\ncommand = [\"true\"]\n";
    let file = |name: &str, text: &str| lab.file(name, text).to_str().unwrap().to_owned();
    let cases: [(String, &[&str]); 6] = [
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
    let cases: [(&[&str], &str); 6] = [
        (&["network", "ls"], &socket),
        (&run, &socket),
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
