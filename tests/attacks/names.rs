//! Hostile names: each is refused, with the field named, at every door where names come in, and nothing is made.

use std::process::Command;
use std::str::FromStr;

use netloft_tests::Lab;
use netloft_tests::programs::tool;
use netloft_tests::running::Running;
use netloft_types::{InterfaceName, Invalid, NetworkName, SandboxName, ServiceName};

/// What is a path, a template, an option, a command, a rule, a line or a colour to somebody who is careless; and what
/// is too long. Nowhere a name.
const HOSTILE: [&str; 20] = [
    "../../etc/passwd",
    "..",
    ".",
    "/",
    "a/b",
    "eth%d",
    "sixteencharacter%",
    "$(reboot)",
    "`reboot`",
    "a;reboot",
    "a|b&c>d",
    "a b",
    "a\"b'c\\",
    "}; flush ruleset; {",
    "@set",
    "a\nb",
    "a\tb",
    "\u{1b}[31mred",
    "\u{202e}txt",
    "a\u{7f}",
];

/// The same, for what only some kernel or tool takes for something else.
const HOSTILE_LABELS: [&str; 3] = ["-rf", "UPPER", "a.b"];

pub(crate) fn a_hostile_name_is_no_name() {
    for text in HOSTILE.into_iter().chain(HOSTILE_LABELS).chain(["", &"a".repeat(64)]) {
        refused::<NetworkName>(text, "network name");
        refused::<SandboxName>(text, "sandbox name");
        refused::<ServiceName>(text, "service name");
    }
    for text in HOSTILE.into_iter().chain(["", "sixteen-letters-"]) {
        refused::<InterfaceName>(text, "interface name");
    }
}

pub(crate) fn a_hostile_name_is_refused_by_the_command_line() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    let (status, traces) = (lab.json(&["status"]), lab.traces());
    let run = ["run", "--network", "blue", "--name", "web"];
    for text in ["../x", "$(reboot)", "}; flush ruleset; {", "a\nb", "\u{1b}[31mred", "a b"] {
        let doors: [(&[&str], &[&str], &str); 5] = [
            (&["network", "create"], &[], "network name"),
            (&["network", "rm"], &[], "network name"),
            (&["run", "--network"], &["--name", "web", "--", "true"], "--network"),
            (&[&run[..], &["--sandbox"]].concat(), &["--", "true"], "--sandbox"),
            (&[&run[..], &["--interface"]].concat(), &["--", "true"], "--interface"),
        ];
        for (before, after, field) in doors {
            let ended = lab.netloft(&[before, &[text], after].concat());
            assert_eq!(ended.code(), Some(2), "{ended:?}");
            assert!(ended.stderr.contains(field), "{field} {text:?}: {}", ended.stderr);
            assert!(!ended.stderr.contains('\u{1b}'), "a name does not reach the terminal: {ended:?}");
        }
    }
    assert_eq!((lab.json(&["status"]), lab.traces()), (status, traces));
    agent.stop();
    lab.finish();
}

pub(crate) fn a_hostile_name_is_refused_by_the_agent() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    let (status, traces) = (lab.json(&["status"]), lab.traces());
    for text in HOSTILE {
        let name = field(1, text);
        call(&lab, "CreateNetwork", &name, "network name");
        call(&lab, "RemoveNetwork", &name, "network name");
        call(&lab, "Attach", &[name, field(2, "job")].concat(), "network name");
        call(&lab, "Attach", &[field(1, "blue"), field(2, text)].concat(), "sandbox name");
        let service = field(6, &field(1, text));
        call(&lab, "Attach", &[field(1, "blue"), field(2, "job"), service].concat(), "service name");
    }
    for text in HOSTILE.into_iter().chain(["sixteen-letters-"]) {
        call(&lab, "CreateNetwork", &[field(1, "blue"), field(4, text)].concat(), "interface name");
        let attach = [field(1, "blue"), field(2, "job"), field(3, text)].concat();
        call(&lab, "Attach", &attach, "interface name");
    }
    assert_eq!((lab.json(&["status"]), lab.traces()), (status, traces));
    agent.stop();
    lab.finish();
}

fn refused<T: FromStr<Err = Invalid> + std::fmt::Debug>(text: &str, field: &str) {
    let refusal = text.parse::<T>().unwrap_err();
    assert_eq!(refusal.field(), field, "{text:?}");
    let shown = refusal.to_string();
    assert!(!shown.contains(char::is_control), "a name does not reach a terminal or a log: {shown:?}");
}

/// A field of text in a message of protocol buffers, both short.
fn field(number: u8, text: &str) -> String {
    let head = [number << 3 | 2, u8::try_from(text.len()).unwrap()].map(char::from);
    assert!(head.iter().all(char::is_ascii), "one byte for each");
    head.iter().collect::<String>() + text
}

/// Calls the agent as no client of ours would, and checks that it refuses for this field.
fn call(lab: &Lab, method: &str, message: &str, field: &str) {
    // Not compressed, and how long it is (gRPC over HTTP/2, "Length-Prefixed-Message").
    let len = char::from(u8::try_from(message.len()).unwrap());
    assert!(len.is_ascii(), "one byte");
    let body = lab.file("message", &format!("\0\0\0\0{len}{message}"));
    let mut curl = Command::new(tool("curl"));
    curl.args(["--silent", "--include", "--http2-prior-knowledge", "--max-time", "10", "--noproxy", "*"])
        .args(["--header", "content-type: application/grpc", "--header", "te: trailers"])
        .arg("--unix-socket")
        .arg(lab.path("netloftd.sock"))
        .arg("--data-binary")
        .arg(format!("@{}", body.display()))
        .arg(format!("http://agent/netloft.network.v1.Networks/{method}"));
    let answer = Running::spawn(curl).wait().success();
    // INVALID_ARGUMENT.
    assert!(answer.contains("grpc-status: 3"), "{method} {message:?}: {answer}");
    let named = field.replace(' ', "%20");
    assert!(answer.contains(field) || answer.contains(&named), "{method} {message:?}: {answer}");
}
