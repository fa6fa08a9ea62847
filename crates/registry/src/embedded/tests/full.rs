//! A disk that is full.

use std::time::Duration;

use super::pretended::{Pretended, Survival};
use super::world::{Step, contents, inherited, open, open_session, register, session, turn};
use crate::embedded::Condition;
use crate::{Command, Error};

fn step(command: Command) -> Step {
    at(0, command)
}

fn at(seconds: u64, command: Command) -> Step {
    Step { at: Duration::from_secs(seconds), commands: vec![command] }
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_does_the_rest() {
    let disk = Pretended::default();
    let mut writer = open(&disk).unwrap();
    for number in 1..=8 {
        turn(&mut writer, &step(open_session(number, Some(60)))).remove(0).unwrap();
        turn(&mut writer, &step(register(number, &format!("i{number}"), "api"))).remove(0).unwrap();
    }
    disk.set_capacity(Some(disk.used()));
    let mut more = 0;
    let refused = loop {
        match turn(&mut writer, &step(register(1, &format!("more-{more}"), "api"))).remove(0) {
            Ok(_) => more += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::DiskFull);
    assert!(refused.is_exhausted() && more < 10, "{more}");
    assert_eq!(*writer.shared.condition.borrow(), Condition::Full);

    // What is there is there, can be renewed, and opened again by whom it belongs to; what makes room is done.
    let mut answer = |command| turn(&mut writer, &step(command)).remove(0);
    answer(Command::RenewSession { session: session(2) }).unwrap();
    answer(open_session(2, Some(60))).unwrap();
    assert_eq!(answer(open_session(99, Some(60))), Err(Error::DiskFull));
    let id = "i1".parse().unwrap();
    answer(Command::Deregister { session: session(1), id }).unwrap();
    answer(Command::CloseSession { session: session(3) }).unwrap();
    assert_eq!(answer(register(1, "i1", "api")), Err(Error::DiskFull));

    // It goes on by itself when there is room, and nothing of it all is forgotten.
    disk.set_capacity(None);
    answer(register(1, "again", "api")).unwrap();
    assert_eq!(*writer.shared.condition.borrow(), Condition::Writing);
    let held = inherited(&contents(&writer));
    drop(writer);
    let next = open(&disk.after(Survival::Killed)).unwrap();
    assert_eq!(contents(&next), held);
}

#[test]
fn with_the_last_room_gone_nothing_is_carried_out() {
    let disk = Pretended::default();
    let mut writer = open(&disk).unwrap();
    for number in 1..=30 {
        turn(&mut writer, &step(open_session(number, Some(60)))).remove(0).unwrap();
    }
    disk.set_capacity(Some(disk.used()));
    let mut closed = 0;
    let refused = loop {
        closed += 1;
        let answer = turn(&mut writer, &step(Command::CloseSession { session: session(closed) })).remove(0);
        if let Err(error) = answer {
            break error;
        }
    };
    assert_eq!(refused, Error::DiskFull);
    assert!(closed > 2, "{closed}");
    let before = contents(&writer);
    // Not even what is overdue ends, for that could not be remembered.
    turn(&mut writer, &Step { at: Duration::from_hours(1), commands: vec![] });
    assert_eq!(contents(&writer), before);
    turn(&mut writer, &at(0, Command::RenewSession { session: session(30) })).remove(0).unwrap();

    disk.set_capacity(None);
    for _ in 0..10 {
        turn(&mut writer, &Step { at: Duration::from_hours(1), commands: vec![] });
    }
    assert_eq!(contents(&writer).sessions, []);
}

#[test]
fn an_image_without_room_leaves_the_logs_in_place() {
    let disk = Pretended::default();
    let mut writer = open(&disk).unwrap();
    turn(&mut writer, &step(open_session(1, Some(60)))).remove(0).unwrap();
    let job = loop {
        let number = disk.calls();
        turn(&mut writer, &step(register(1, &format!("i{number}"), "api"))).remove(0).unwrap();
        if let Some(job) = writer.image_due() {
            break job;
        }
    };
    disk.set_capacity(Some(disk.used() + 700));
    let written = job.run();
    assert!(written.is_err());
    writer.end_image(written);
    disk.set_capacity(None);
    turn(&mut writer, &step(register(1, "last", "api"))).remove(0).unwrap();
    let held = contents(&writer);
    drop(writer);
    assert_eq!(contents(&open(&disk.after(Survival::Killed)).unwrap()), held);
}
