//! Programs inside namespaces.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use netloft_netns::{EnterOptions, Netns};

use crate::support::{output, user_namespace};

pub(crate) fn a_command_starts_in_the_namespace() {
    let netns = Netns::create().unwrap();
    let seen = output(&netns, "readlink", &["/proc/self/ns/net"]);
    assert_eq!(seen.trim(), netns.id().to_string());
}

pub(crate) fn a_command_enters_the_user_namespace_first() {
    let mut inner = Command::new("unshare");
    inner.args(["--user", "--map-root-user", "--net", "sh", "-c"]);
    inner.arg("echo ready; exec sleep 1000").stdout(Stdio::piped());
    let mut inner = Killed(inner.spawn().unwrap());
    let stdout = inner.0.stdout.take().unwrap();
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");

    let netns = Netns::open(format!("/proc/{}/ns/net", inner.0.id())).unwrap();
    let user = user_namespace(inner.0.id());
    let mut command = Command::new("readlink");
    EnterOptions::new(&netns)
        .user_namespace(user.into())
        .apply(command.args(["/proc/self/ns/user", "/proc/self/ns/net"]));
    let seen = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let user = std::fs::read_link(format!("/proc/{}/ns/user", inner.0.id())).unwrap();
    assert_eq!(seen, format!("{}\n{}\n", user.display(), netns.id()));
}

pub(crate) fn a_command_sees_a_replaced_file_and_nobody_else_does() {
    let before = std::fs::read("/etc/hosts").unwrap();
    let netns = Netns::create().unwrap();
    let mut command = Command::new("sh");
    EnterOptions::new(&netns)
        .replace_file(c"/etc/hosts".into(), b"192.0.2.1 elsewhere\n".to_vec())
        .apply(command.args(["-c", "umask; cat /etc/hosts; stat --format %a /etc/hosts; test -c /dev/null"]));
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(String::from_utf8(ended.stdout).unwrap().ends_with("\n192.0.2.1 elsewhere\n644\n"));
    assert_eq!(std::fs::read("/etc/hosts").unwrap(), before);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(" /etc/hosts "), "{mounts}");

    let missing = c"/no/such/file".into();
    EnterOptions::new(&netns).replace_file(missing, Vec::new()).apply(&mut command);
    assert_eq!(command.spawn().unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

pub(crate) fn a_command_dies_with_the_thread_that_spawned_it() {
    let netns = Netns::create().unwrap();
    let spawn = || {
        let mut command = Command::new("sleep");
        EnterOptions::new(&netns).kill_with_parent().apply(command.arg("1000"));
        command.spawn().unwrap()
    };
    let mut child = std::thread::scope(|scope| scope.spawn(spawn).join().unwrap());
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

pub(crate) fn the_marker_of_a_private_process_is_true_of_no_other() {
    assert!(netloft_netns::private::is_private());
    assert!(netloft_netns::require_privilege().is_ok());
    // Children inherit the marker. One that held no more than "yes" would deceive them.
    let marker = std::env::var("NETLOFT_PRIVATE").unwrap();
    let (pid, netns) = marker.split_once(' ').unwrap();
    assert_eq!(pid, std::process::id().to_string());
    assert_eq!(netns, Netns::current().unwrap().id().to_string());
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
