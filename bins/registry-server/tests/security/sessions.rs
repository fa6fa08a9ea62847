//! R2: renew, end or use somebody else's session.

use std::collections::BTreeSet;

use netloft_proto::registry::v1 as wire;
use tonic::{Code, Status};

use super::ground::{Ground, Raw, get, instance, open_session, raw, register, told};

/// Everything that can be done with the id of a session; answers what each was told.
async fn attack(client: &mut Raw, session: &str) -> Vec<Result<String, Status>> {
    let (session_id, instance_id) = (session.to_owned(), "victim".to_owned());
    let with = || (session_id.clone(), instance_id.clone());
    let mut answers = Vec::new();
    let mut note = |answer: Result<String, Status>| answers.push(answer);
    let (session_id, instance_id) = with();
    let health = wire::Health::Critical.into();
    let update = wire::UpdateRequest { session_id, instance_id, health, ..wire::UpdateRequest::default() };
    note(client.update(update).await.map(|_| "changed".to_owned()));
    let (session_id, instance_id) = with();
    note(
        client
            .drain(wire::DrainRequest { session_id, instance_id, window_ms: 0 })
            .await
            .map(|_| "drained".to_owned()),
    );
    let (session_id, instance_id) = with();
    let heartbeat = wire::HeartbeatRequest { session_id, instance_id, ..wire::HeartbeatRequest::default() };
    // The instance has no check to be told of, so the attack's best is another code than that of the session.
    note(client.heartbeat(heartbeat).await.map(|_| "heard".to_owned()));
    note(
        register(client, session, instance("guest", "api-1", "10.1.0.9")).await.map(|_| "joined".to_owned()),
    );
    let (session_id, _) = with();
    let renewal = tokio_stream::iter([wire::KeepAliveRequest { session_id }]);
    let renewed = client.keep_alive(renewal).await.unwrap().into_inner().message().await;
    note(renewed.map(|answer| if answer.unwrap().ttl_ms == 0 { "not there" } else { "renewed" }.to_owned()));
    let (session_id, instance_id) = with();
    note(
        client
            .deregister(wire::DeregisterRequest { session_id, instance_id })
            .await
            .map(|_| "removed".to_owned()),
    );
    let (session_id, _) = with();
    note(client.close_session(wire::CloseSessionRequest { session_id }).await.map(|_| "closed".to_owned()));
    answers
}

#[tokio::test]
async fn r2_a_session_is_of_no_use_to_another_who_knows_its_id() {
    let ground = Ground::new();
    let open = Ground::start_open(&[]);
    let (mut owner, mut thief) = (raw(&open, ""), raw(&open, ""));
    let session = open_session(&mut owner).await;
    register(&mut owner, &session, instance("victim", "api-1", "10.1.0.1")).await.unwrap();
    let worked = attack(&mut thief, &session).await.into_iter().filter_map(Result::ok).collect::<Vec<_>>();
    assert_eq!(worked, ["changed", "drained", "joined", "renewed", "removed", "closed"]);

    let tokens = ["owner", "thief"]
        .map(|name| ground.token(name, "api-*:register,read", &["--address", "10.1.0.0/16"]));
    let guarded = ground.start_guarded(&[]);
    let [mut owner, mut thief] = tokens.each_ref().map(|token| raw(&guarded, token));
    let session = open_session(&mut owner).await;
    register(&mut owner, &session, instance("victim", "api-1", "10.1.0.1")).await.unwrap();
    let before = get(&mut owner, "victim").await.unwrap();
    let stolen = attack(&mut thief, &session).await;
    let guessed = attack(&mut thief, "0123456789abcdef0123456789abcdef").await;
    for (stolen, guessed) in stolen.iter().zip(&guessed) {
        match (stolen, guessed) {
            (Ok(stolen), Ok(guessed)) => {
                assert_eq!((stolen.as_str(), guessed.as_str()), ("not there", "not there"));
            }
            (Err(stolen), Err(guessed)) => {
                assert_eq!(told(stolen, &session), told(guessed, &session));
                assert_eq!(stolen.code(), Code::NotFound);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(get(&mut owner, "victim").await.unwrap(), before);
}

#[tokio::test]
async fn r2_ids_of_sessions_do_not_repeat_in_any_part() {
    let ground = Ground::new();
    let token = ground.token("owner", "*:register", &[]);
    let server = ground.start_guarded(&[]);
    let mut owner = raw(&server, &token);
    let mut parts = [const { BTreeSet::new() }; 4];
    for _ in 0..200 {
        let id = open_session(&mut owner).await;
        for (part, text) in parts.iter_mut().zip([&id[..8], &id[8..16], &id[16..24], &id[24..]]) {
            part.insert(text.to_owned());
        }
    }
    // A collision of two of 200 draws of 32 bits comes about once in 200,000 times.
    assert_eq!(parts.map(|part| part.len()), [200; 4]);
}
