//! R4 and R6: take so much that nothing is left for others. R11: take everything out of service at once.

use std::time::{Duration, Instant};

use netloft_proto::registry::v1 as wire;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tonic::Code;

use super::ground::{Ground, PATIENCE, Raw, Server, get, instance, lines_of, open_session, raw, register};

const ALL: [&str; 2] = ["--address", "10.0.0.0/8"];

async fn connect_from(address: &str, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(server.address.parse().unwrap()).await.unwrap()
}

/// Whether a connection is served: the server begins with its settings once it is greeted.
async fn is_served(stream: &mut TcpStream) -> bool {
    use tokio::io::AsyncWriteExt as _;
    let greeted = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let read = timeout(PATIENCE, stream.read(&mut [0; 9])).await.expect("an answer or an end");
    greeted.is_ok() && read.is_ok_and(|len| len > 0)
}

#[tokio::test]
async fn r4_one_address_cannot_take_all_connections() {
    let open = Ground::start_open(&["--connections-max", "16", "--connections-per-peer-max", "8"]);
    let mut held = Vec::new();
    for number in 0..12 {
        let mut stream = connect_from("127.0.0.2", &open).await;
        assert_eq!(is_served(&mut stream).await, number < 8, "{number}");
        held.push(stream);
    }
    assert!(is_served(&mut connect_from("127.0.0.3", &open).await).await);
    // And the places come back.
    drop(held);
    super::ground::eventually("a place is free", async || {
        is_served(&mut connect_from("127.0.0.2", &open).await).await
    })
    .await;
}

#[tokio::test]
async fn r4_one_identity_cannot_take_all_sessions_instances_or_time() {
    let ground = Ground::new();
    let [greedy, modest] = ["greedy", "modest"].map(|name| ground.token(name, "*:read,register", &ALL));
    let server = ground.start_guarded(&[
        "--identity-sessions-max",
        "3",
        "--identity-instances-max",
        "5",
        "--identity-calls-per-second",
        "10",
    ]);
    let (mut greedy, mut modest) = (raw(&server, &greedy), raw(&server, &modest));
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(open_session(&mut greedy).await);
    }
    let refused = greedy.open_session(wire::OpenSessionRequest { ttl_ms: 5_000 }).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("sessions = 3"), "{refused}");
    for number in 0..5 {
        let one = instance(&format!("g{number}"), "api", "10.0.0.1");
        register(&mut greedy, &sessions[number % 3], one).await.unwrap();
    }
    let refused = register(&mut greedy, &sessions[0], instance("g5", "api", "10.0.0.1")).await.unwrap_err();
    assert!(refused.message().contains("instances = 5"), "{refused}");

    let begun = Instant::now();
    let mut answered: u32 = 0;
    let refused = loop {
        match greedy.list_services(wire::ListServicesRequest::default()).await {
            Ok(_) => answered += 1,
            Err(status) => break status,
        }
        assert!(begun.elapsed() < PATIENCE, "never refused");
    };
    assert!(refused.message().contains("calls per second = 10"), "{refused}");
    assert!(f64::from(answered) <= 50.0 + 10.0 * begun.elapsed().as_secs_f64(), "{answered}");
    // Others are served all the while.
    let session = open_session(&mut modest).await;
    register(&mut modest, &session, instance("m", "api", "10.0.0.2")).await.unwrap();
}

#[tokio::test]
async fn r4_what_makes_room_makes_room() {
    let ground = Ground::new();
    let token = ground.token("tenant", "*:read,register", &ALL);
    let server = ground.start_guarded(&["--identity-sessions-max", "1", "--identity-instances-max", "1"]);
    let mut tenant = raw(&server, &token);
    for _ in 0..5 {
        let session_id = open_session(&mut tenant).await;
        for id in ["one", "other"] {
            register(&mut tenant, &session_id, instance(id, "api", "10.0.0.1")).await.unwrap();
            let (session_id, instance_id) = (session_id.clone(), id.to_owned());
            tenant.deregister(wire::DeregisterRequest { session_id, instance_id }).await.unwrap();
        }
        tenant.close_session(wire::CloseSessionRequest { session_id }).await.unwrap();
    }
}

#[tokio::test]
async fn r6_one_identity_cannot_take_all_watches() {
    let ground = Ground::new();
    let [greedy, modest] = ["greedy", "modest"].map(|name| ground.token(name, "*:read", &[]));
    let server = ground.start_guarded(&["--identity-streams-max", "10"]);
    let (mut greedy, mut modest) = (raw(&server, &greedy), raw(&server, &modest));
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(greedy.watch(wire::WatchRequest::default()).await.unwrap());
    }
    let refused = greedy.watch(wire::WatchRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    modest.watch(wire::WatchRequest::default()).await.unwrap();
    // Over a second connection it is the same identity.
    held.pop();
    super::ground::eventually("a place is free", async || {
        greedy.watch(wire::WatchRequest::default()).await.is_ok_and(|watch| {
            held.push(watch);
            true
        })
    })
    .await;
}

fn tells_of(update: &wire::Update, id: &str) -> bool {
    match update.step.as_ref().unwrap() {
        wire::update::Step::Put(put) => put.instance.as_ref().unwrap().id == id,
        wire::update::Step::Reset(reset) => reset.all.iter().any(|one| one.id == id),
        _ => false,
    }
}

/// Watches everything and never reads, over connections of its own.
async fn slow_readers(
    server: &Server,
    token: &str,
    count: usize,
) -> Vec<tonic::Streaming<wire::WatchResponse>> {
    let (health, lifecycle) = (wire::HealthFilter::Any.into(), wire::LifecycleFilter::Any.into());
    let query = Some(wire::Query { health, lifecycle, ..wire::Query::default() });
    let mut readers = Vec::new();
    for _ in 0..count {
        let request = wire::WatchRequest { query: query.clone(), after_revision: None };
        readers.push(raw(server, token).watch(request).await.unwrap().into_inner());
    }
    readers
}

#[tokio::test(flavor = "multi_thread")]
async fn r6_watches_that_are_never_read_cost_little_and_slow_nobody() {
    let ground = Ground::new();
    let token = ground.token("tenant", "*:read,register", &ALL);
    let server =
        ground.start_guarded(&["--identity-calls-per-second", "100000", "--history-len-max", "1024"]);
    let mut tenant = raw(&server, &token);
    let session = open_session(&mut tenant).await;
    let metadata: std::collections::HashMap<_, _> =
        (0..16).map(|number| (format!("key{number}"), "x".repeat(512))).collect();
    let large = |number: u32| wire::Instance {
        metadata: metadata.clone(),
        weight: Some(1 + number % 1_000),
        ..instance(&format!("i{}", number % 20), "api", "10.0.0.1")
    };
    for number in 0..20 {
        register(&mut tenant, &session, large(number)).await.unwrap();
    }
    let before = server.memory();
    let slow = slow_readers(&server, &token, 100).await;
    let mut reader = slow_readers(&server, &token, 1).await.remove(0);
    let reading = tokio::spawn(async move {
        loop {
            let batch = timeout(PATIENCE, reader.message()).await.expect("in time").unwrap().unwrap();
            if batch.updates.iter().any(|update| tells_of(update, "last")) {
                return;
            }
        }
    });
    // Each of the hundred would be owed some 35 MB.
    for number in 0..4_000 {
        register(&mut tenant, &session, large(number)).await.unwrap();
    }
    register(&mut tenant, &session, instance("last", "api", "10.0.0.1")).await.unwrap();
    timeout(PATIENCE, reading).await.expect("the one who reads hears of the last").unwrap();
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 200 << 20, "grew by {} MiB", grown >> 20);
    drop(slow);
}

async fn deregister(client: &mut Raw, session: &str, id: &str) -> Result<(), tonic::Status> {
    let (session_id, instance_id) = (session.to_owned(), id.to_owned());
    client.deregister(wire::DeregisterRequest { session_id, instance_id }).await.map(drop)
}

#[tokio::test]
async fn r11_a_host_in_other_hands_removes_slowly_what_is_its_own_and_nothing_else() {
    let ground = Ground::new();
    let [sick, well] = ["sick", "well"].map(|name| ground.token(name, "*:read,register", &ALL));
    let log = ground.text("audit.log");
    // Where nothing is guarded, all are gone at once.
    let open = Ground::start_open(&[]);
    let mut anybody = raw(&open, "");
    let session = open_session(&mut anybody).await;
    for number in 0..200 {
        register(&mut anybody, &session, instance(&format!("s{number}"), "api", "10.0.0.1")).await.unwrap();
    }
    for number in 0..200 {
        deregister(&mut anybody, &session, &format!("s{number}")).await.unwrap();
    }

    let server = ground.start_guarded(&["--identity-removals-per-second", "2", "--audit-log", &log]);
    let (mut sick, mut well) = (raw(&server, &sick), raw(&server, &well));
    let (sick_session, well_session) = (open_session(&mut sick).await, open_session(&mut well).await);
    for number in 0..200 {
        register(&mut sick, &sick_session, instance(&format!("s{number}"), "api", "10.0.0.1")).await.unwrap();
    }
    register(&mut well, &well_session, instance("w", "api", "10.0.0.2")).await.unwrap();
    let begun = Instant::now();
    let (mut removed, mut slowed) = (0_u32, 0_u32);
    for number in 0..200 {
        match deregister(&mut sick, &sick_session, &format!("s{number}")).await {
            Ok(()) => removed += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                slowed += 1;
            }
        }
    }
    let may = 20.0 + 2.0 * begun.elapsed().as_secs_f64() + 1.0;
    assert!(f64::from(removed) <= may && removed >= 20, "{removed} of 200 in {:?}", begun.elapsed());
    // Other ways to the same end share the rate.
    let (session_id, instance_id) = (sick_session.clone(), "s199".to_owned());
    let drain = wire::DrainRequest { session_id, instance_id, window_ms: 10 };
    assert_eq!(sick.drain(drain).await.unwrap_err().code(), Code::ResourceExhausted);
    let update = wire::UpdateRequest {
        session_id: sick_session.clone(),
        instance_id: "s199".to_owned(),
        health: wire::Health::Critical.into(),
        ..wire::UpdateRequest::default()
    };
    assert_eq!(sick.update(update).await.unwrap_err().code(), Code::ResourceExhausted);
    let close = wire::CloseSessionRequest { session_id: sick_session.clone() };
    assert_eq!(sick.close_session(close).await.unwrap_err().code(), Code::ResourceExhausted);
    // What is another's it cannot remove at all, and the other may go on.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = deregister(&mut sick, &sick_session, "w").await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    get(&mut well, "w").await.unwrap();
    deregister(&mut well, &well_session, "w").await.unwrap();
    server.stop();

    let lines = lines_of(&ground.path("audit.log"));
    let count = |outcome: &str| {
        let of = |line: &&serde_json::Value| {
            line["identity"] == "token:sick"
                && line["operation"] == "deregister"
                && line["outcome"] == outcome
        };
        u32::try_from(lines.iter().filter(of).count()).unwrap()
    };
    let dropped: u64 = lines.iter().filter_map(|line| line["refusals_dropped"].as_u64()).sum();
    assert_eq!(count("done"), removed);
    assert!(
        u64::from(count("refused")) + dropped >= u64::from(slowed),
        "{} and {dropped} of {slowed}",
        count("refused")
    );
}
