//! R1: register an address that is not one's own, and have the calls of others go there.

use tonic::Code;

use super::ground::{Ground, instance, open_session, raw, register};

/// Metadata of a cloud, the victim's loopback, another tenant, the registry's own host, and the same in other spellings.
const NOT_THEIRS: [&str; 6] =
    ["169.254.169.254", "127.0.0.1", "10.2.0.1", "::1", "fe80::1", "::ffff:127.0.0.1"];

#[tokio::test]
async fn r1_an_address_that_is_not_theirs_cannot_be_registered() {
    let ground = Ground::new();
    let open = Ground::start_open(&[]);
    let mut anybody = raw(&open, "");
    let session = open_session(&mut anybody).await;
    for (number, address) in NOT_THEIRS.iter().enumerate() {
        // The attack works.
        register(&mut anybody, &session, instance(&format!("a{number}"), "api", address)).await.unwrap();
    }

    let token = ground.token("tenant", "*:register,read", &["--address", "10.1.0.0/16"]);
    let guarded = ground.start_guarded(&[]);
    let mut tenant = raw(&guarded, &token);
    let session = open_session(&mut tenant).await;
    for address in NOT_THEIRS {
        let refused = register(&mut tenant, &session, instance("a", "api", address)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{address}: {refused}");
        assert!(refused.message().contains("token:tenant may not register address"), "{refused}");
    }
    register(&mut tenant, &session, instance("a", "api", "10.1.0.5")).await.unwrap();
    // Nor can it be moved there once it is registered.
    let moved = register(&mut tenant, &session, instance("a", "api", "169.254.169.254")).await;
    assert_eq!(moved.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn r1_without_a_word_of_the_operator_it_is_the_address_one_speaks_from() {
    let ground = Ground::new();
    let token = ground.token("tenant", "*:register", &[]);
    let guarded = ground.start_guarded(&[]);
    let mut tenant = raw(&guarded, &token);
    let session = open_session(&mut tenant).await;
    let refused = register(&mut tenant, &session, instance("a", "api", "10.1.0.5")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    register(&mut tenant, &session, instance("a", "api", "127.0.0.1")).await.unwrap();
}
