//! Making and visiting namespaces.

use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};

use netloft_netns::{Enterer, Netns};

use crate::support::{count, eventually, ip};

pub(crate) fn a_new_namespace_is_another_one_and_empty() {
    let home = Netns::current().unwrap();
    let (first, second) = (Netns::create().unwrap(), Enterer::new().unwrap().create().unwrap());
    assert!(first != home && second != home && first != second);
    for netns in [first, second] {
        let links = ip(&netns, &["link"]);
        assert_eq!(links.len(), 1);
        assert_eq!(links[0]["ifname"], "lo");
        assert_eq!(links[0]["operstate"], "DOWN");
    }
}

pub(crate) fn the_thread_stays_where_it_was_while_others_visit() {
    let home = Netns::current().unwrap();
    let away = Netns::create().unwrap();
    let enterer = Enterer::new().unwrap();
    let visited = away.run(|| Netns::current().unwrap()).unwrap();
    let visited_again = enterer.run(&away, || Netns::current().unwrap()).unwrap();
    assert_eq!((visited, visited_again), (away.clone(), away));
    assert_eq!(Netns::current().unwrap(), home);
}

pub(crate) fn an_enterer_visits_what_it_is_told_and_goes_home_between() {
    let enterer = Enterer::new().unwrap();
    let home = Netns::current().unwrap();
    let away: Vec<_> = (0..3).map(|_| Netns::create().unwrap()).collect();
    for netns in away.iter().cycle().take(300) {
        let visited = enterer.run(netns, || Netns::current().unwrap()).unwrap();
        assert_eq!(&visited, netns);
    }
    // A thread that had stayed would keep the last namespace alive, and with it whatever is in it.
    let resting = |task: &std::path::Path| Netns::open(task.join("ns/net")).unwrap();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        assert_eq!(resting(&task.unwrap().path()), home);
    }
}

pub(crate) fn a_panic_in_a_job_reaches_the_caller_and_spares_the_enterer() {
    let enterer = Enterer::new().unwrap();
    let away = Netns::create().unwrap();
    let panics = || std::panic::resume_unwind(Box::new("the job's own words"));
    let by_enterer = catch_unwind(AssertUnwindSafe(|| enterer.run::<(), _>(&away, panics)));
    let by_fresh_thread = catch_unwind(AssertUnwindSafe(|| away.run::<()>(panics)));
    for payload in [by_enterer.unwrap_err(), by_fresh_thread.unwrap_err()] {
        assert_eq!(*payload.downcast::<&str>().unwrap(), "the job's own words");
    }
    assert_eq!(enterer.run(&away, || 7).unwrap(), 7);
}

pub(crate) fn a_socket_stays_in_the_namespace_it_was_opened_in() {
    let enterer = Enterer::new().unwrap();
    let (first, second) = (Netns::create().unwrap(), Netns::create().unwrap());
    let open = || UdpSocket::bind("0.0.0.0:5353").unwrap();
    // Both have the same port, and neither takes it from us.
    let sockets = [&first, &second].map(|netns| enterer.run(netns, open).unwrap());
    let _ours = open();
    for socket in sockets {
        assert_eq!(socket.local_addr().unwrap().port(), 5353);
    }
}

pub(crate) fn a_hundred_namespaces_leave_no_descriptor_and_no_thread() {
    let enterer = Enterer::new().unwrap();
    let before = (count("/proc/self/fd"), count("/proc/self/task"));
    for _ in 0..100 {
        let netns = Netns::create().unwrap();
        enterer.run(&netns, || ()).unwrap();
        enterer.create().unwrap();
        netns.run(|| ()).unwrap();
    }
    drop(enterer);
    // The kernel shows a joined thread a moment longer.
    eventually("threads are gone", || count("/proc/self/task") == before.1);
    assert_eq!(count("/proc/self/fd"), before.0 - 1, "without the enterer's home");
}
