//! Names for namespaces.

use netloft_netns::{Error, Netns, NetnsDir};
use netloft_types::SandboxName;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::support::TempDir;

pub(crate) fn a_name_keeps_the_namespace_alive_and_leaves_no_file() {
    let (temp, directory) = directory("alive");
    let id = directory.create(&name("web")).unwrap().id();
    let file = directory.path_of(&name("web"));

    assert_eq!(directory.find(&name("web")).unwrap().id(), id);
    assert_eq!(Netns::open(&file).unwrap().id(), id);
    assert_eq!(directory.list().unwrap(), [name("web")].into());
    assert!(mounts().contains(file.to_str().unwrap()));

    directory.delete(&name("web")).unwrap();
    assert!(directory.find(&name("web")).unwrap_err().is_not_found());
    assert!(directory.list().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    assert!(!mounts().contains(temp.0.to_str().unwrap()));
}

pub(crate) fn a_taken_name_is_refused_and_keeps_its_namespace() {
    let (_temp, directory) = directory("taken");
    let first = directory.create(&name("web")).unwrap();
    let refused = directory.create(&name("web")).unwrap_err();
    let found = directory.find(&name("web")).unwrap();
    directory.delete(&name("web")).unwrap();
    assert!(refused.is_exists(), "{refused}");
    assert_eq!(found, first);
}

pub(crate) fn deletion_is_success_whatever_is_left() {
    let (_temp, directory) = directory("deletion");
    let web = name("web");
    directory.delete(&web).unwrap();

    // As a crash between the two steps of naming leaves it.
    std::fs::File::create(directory.path_of(&web)).unwrap();
    let half = directory.find(&web).unwrap_err();
    assert!(matches!(half, Error::NotNetns { .. }), "{half}");
    directory.delete(&web).unwrap();

    directory.create(&web).unwrap();
    directory.delete(&web).unwrap();
    directory.delete(&web).unwrap();
    assert!(directory.list().unwrap().is_empty());
}

pub(crate) fn a_failed_mount_leaves_no_file() {
    let temp = TempDir::new("detached");
    let none = None::<&str>;
    mount(none, &temp.0, Some("tmpfs"), MsFlags::empty(), Some("mode=0700")).unwrap();
    let directory = NetnsDir::open(&temp.0).unwrap();
    // In a file system that is no longer mounted files can still be made, but nothing can be mounted.
    umount2(&temp.0, MntFlags::MNT_DETACH).unwrap();
    let refused = directory.create(&name("web")).unwrap_err();
    assert!(matches!(refused, Error::Bind { .. }), "{refused}");
    assert!(directory.list().unwrap().is_empty());
}

fn directory(test: &str) -> (TempDir, NetnsDir) {
    let temp = TempDir::new(test);
    let directory = NetnsDir::open(temp.0.join("netns")).unwrap();
    (temp, directory)
}

fn name(text: &str) -> SandboxName {
    text.parse().unwrap()
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mounts").unwrap()
}
