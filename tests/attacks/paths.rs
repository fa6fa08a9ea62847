//! Paths: what is done to them between their naming and their use, and who owns them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use netloft_netns::{Netns, NetnsDir};
use netloft_network::testing::FakeKernel;
use netloft_network::{Host, HostOptions};
use netloft_tests::programs::tool;
use netloft_tests::running::Running;
use netloft_tests::{Lab, tell};
use netloft_types::{AttachSpec, NetworkSpec};
use nix::mount::{MsFlags, mount};
use tempfile::TempDir;

use crate::support::{block_on, ip, output};

pub(crate) fn a_namespace_bound_over_the_path_of_another_is_not_touched() {
    let directory = TempDir::new().unwrap();
    let options = HostOptions {
        netns: Some(Netns::create().unwrap()),
        netns_dir: Some(directory.path().join("netns")),
        ..HostOptions::default()
    };
    let host = Host::open(options).unwrap();
    block_on(host.create_network(NetworkSpec::new("blue".parse().unwrap()))).unwrap();
    let attached =
        block_on(host.attach(AttachSpec::new("blue".parse().unwrap(), "a".parse().unwrap()))).unwrap();

    let other = Netns::create().unwrap();
    output(&other, "ip", &["link", "add", "name", "eth0", "type", "veth", "peer", "name", "theirs"]);
    let before = ip(&other, &["link"]);
    bind(&other.path(), &attached.netns_path);
    let by_path = Netns::open(&attached.netns_path).unwrap();
    assert_eq!(by_path.id(), other.id(), "whoever goes by the path is deceived");

    assert_ne!(attached.netns.id(), other.id());
    block_on(host.detach(attached.endpoint.id)).unwrap();
    assert_eq!(ip(&other, &["link"]), before);
    assert!(!attached.netns_path.exists(), "the name is free again");
    // Nor does the name stand for that one afterwards.
    let again =
        block_on(host.attach(AttachSpec::new("blue".parse().unwrap(), "a".parse().unwrap()))).unwrap();
    assert_ne!(again.netns.id(), other.id());
    assert_eq!(Netns::open(&again.netns_path).unwrap().id(), again.netns.id());
    block_on(host.close()).unwrap();
    assert_eq!(ip(&other, &["link"]), before);
}

pub(crate) fn a_handle_stays_where_it_was_when_the_process_number_is_used_again() {
    // In a namespace of processes of its own, whose next number can be chosen.
    let script = "
        while read -r line; do
            if [ -n \"$child\" ]; then kill -KILL $child; wait $child 2>/dev/null; fi
            echo 99 >/proc/sys/kernel/ns_last_pid
            unshare --net sleep 600 &
            child=$!
            until ! [ /proc/self/ns/net -ef /proc/$child/ns/net ]; do :; done
            echo \"$line $child\"
        done";
    let mut unshare = Command::new(tool("unshare"));
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script]);
    let mut processes = Running::spawn_listening(unshare);
    let path = PathBuf::from(format!("/proc/{}/root/proc/100/ns/net", processes.pid()));

    processes.say("first");
    processes.line("first 100");
    let handle = Netns::open(&path).unwrap();
    let first = handle.id();
    processes.say("second");
    processes.line("second 100");

    assert_ne!(Netns::open(&path).unwrap().id(), first, "the path names another one now");
    assert_eq!(handle.id(), first);
    assert_eq!(handle.run(|| Netns::current().unwrap().id()).unwrap(), first);
    assert_eq!(Netns::open(handle.path()).unwrap().id(), first, "as for the path that it gives away");
}

pub(crate) fn a_directory_of_namespaces_that_others_can_change_is_refused() {
    every_hostile_directory_is_refused(|path| NetnsDir::open(path).is_err());
}

pub(crate) fn a_directory_of_state_that_others_can_change_is_refused_and_untouched() {
    every_hostile_directory_is_refused(|path| {
        let before = listing(path);
        let refused = open_with_state(path).err();
        if let Some(refused) = &refused {
            assert!(refused.contains(path.to_str().unwrap()), "it says which: {refused}");
            assert_eq!(listing(path), before, "{}", path.display());
        }
        refused.is_some()
    });
    let place = TempDir::new().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "theirs").unwrap();
    for path in [file.clone(), file.join("beneath")] {
        let refused = open_with_state(&path).unwrap_err();
        assert!(refused.contains(path.to_str().unwrap()), "{refused}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"theirs");
}

pub(crate) fn a_file_of_state_that_is_not_ours_is_refused_and_untouched() {
    type Plant = (&'static str, fn(&Path));
    let plant: [Plant; 6] = [
        ("a link", |path| {
            let target = path.with_file_name("target");
            fs::copy(path, &target).unwrap();
            fs::remove_file(path).unwrap();
            symlink(target, path).unwrap();
        }),
        ("a link to nothing", |path| {
            fs::remove_file(path).unwrap();
            symlink("nothing", path).unwrap();
        }),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("writable for others", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap()),
        ("garbage", |path| fs::write(path, [0xa5; 10_000]).unwrap()),
        ("cut off", |path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(1_000).unwrap();
        }),
    ];
    for (what, plant) in plant {
        let place = TempDir::new().unwrap();
        let directory = place.path().join("state");
        open_with_state(&directory).unwrap();
        let file = directory.join("network.redb");
        plant(&file);
        let before = (listing(&directory), fs::read(&file).ok());
        let refused = open_with_state(&directory).expect_err(what);
        assert!(refused.contains(file.to_str().unwrap()), "{what}: {refused}");
        assert_eq!((listing(&directory), fs::read(&file).ok()), before, "{what}");
    }
    if nix::unistd::geteuid().is_root() {
        let place = TempDir::new().unwrap();
        open_with_state(place.path()).unwrap();
        let file = place.path().join("network.redb");
        if std::os::unix::fs::chown(&file, Some(65534), None).is_ok() {
            let refused = open_with_state(place.path()).unwrap_err();
            assert!(refused.contains(file.to_str().unwrap()), "{refused}");
        } else {
            tell("there is one user here: a file of another one is not tried");
        }
    }
}

/// Opens a host with its state in a directory, and leaves it; or what is told of why not.
fn open_with_state(directory: &Path) -> Result<(), String> {
    let kernel = FakeKernel::new().unwrap();
    let options = HostOptions { state_dir: Some(directory.to_owned()), ..HostOptions::default() };
    match Host::open_over(Box::new(kernel), options) {
        Ok(host) => {
            block_on(host.leave()).unwrap();
            Ok(())
        }
        Err(error) => Err(format!("{:#}", anyhow::Error::from(error))),
    }
}

/// What is in a directory, with sizes and modes.
fn listing(directory: &Path) -> Vec<(PathBuf, u64, u32)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        (entry.path(), metadata.len(), metadata.mode())
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort();
    entries
}

pub(crate) fn the_socket_of_the_agent_is_for_its_owner_alone() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    let socket = lab.path("netloftd.sock");
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o600, nix::unistd::geteuid().as_raw()));
    UnixStream::connect(&socket).unwrap();

    // The way to it is opened as far as the lab made it, so that its own mode is what keeps anybody out.
    let run = lab.path("");
    for directory in [run.as_path(), run.parent().unwrap()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    if let Some(answer) = as_another_user(&socket) {
        assert!(!answer, "another user is let in");
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(as_another_user(&socket), Some(true), "it is the mode that keeps them out");
    }
    agent.stop();
    lab.finish();
}

/// Whether another user can connect to a socket; none where there is no other user, in a user namespace of one.
fn as_another_user(socket: &Path) -> Option<bool> {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    if map.split_whitespace().last() == Some("1") {
        tell("there is one user here: that others are kept out is concluded from the mode of the socket");
        return None;
    }
    let mut other = Command::new(tool("setpriv"));
    other.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(tool("curl"));
    other.args(["--silent", "--http2-prior-knowledge", "--noproxy", "*", "--unix-socket"]).arg(socket);
    other.arg("http://agent/");
    let ended = Running::spawn(other).wait();
    // CURLE_COULDNT_CONNECT.
    Some(ended.code() != Some(7))
}

/// Tries to open a directory that is a symbolic link, that others may write to, or that somebody else owns; and one
/// that is as it should be. `is_refused` opens it.
pub(crate) fn every_hostile_directory_is_refused(is_refused: impl Fn(&Path) -> bool) {
    let place = TempDir::new().unwrap();
    let made = |name: &str, mode| {
        let path = place.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let good = made("good", 0o700);
    assert!(!is_refused(&good), "it is as it should be");
    let link = place.path().join("link");
    symlink(&good, &link).unwrap();
    let hostile = [
        link,
        made("of-a-group", 0o770),
        made("of-everybody", 0o777),
        made("sticky", 0o1777),
        of_another(&place),
    ];
    for path in hostile {
        assert!(is_refused(&path), "{}", path.display());
    }
}

/// A directory that somebody else owns.
fn of_another(place: &TempDir) -> PathBuf {
    let path = place.path().join("of-another");
    fs::create_dir(&path).unwrap();
    match std::os::unix::fs::chown(&path, Some(65534), None) {
        Ok(()) => path,
        // In a user namespace of one there is nobody to give it to; but then root of the machine is somebody else.
        Err(_) => PathBuf::from("/usr"),
    }
}

fn bind(source: &Path, target: &Path) {
    let (no_type, no_data) = (None::<&str>, None::<&str>);
    mount(Some(source), target, no_type, MsFlags::MS_BIND, no_data).unwrap();
}
