//! A registry and its disk.

use netloft_client::{Client, RegisterOptions, Registration};
use netloft_tests::Lab;
use netloft_tests::disk::{SmallDisk, fill};
use netloft_tests::running::until;
use netloft_types::{Instance, Query};

use crate::support::block_on;

pub(crate) fn a_full_disk_refuses_registrations_and_serves_everything_else() {
    let lab = Lab::new();
    let path = lab.path("disk");
    let disk = SmallDisk::mount(&path, 4);
    let directory = disk.path().join("registry");
    let ballast = disk.path().join("ballast");
    let registry = lab.registry_in(&directory);
    block_on(async {
        let client = registry.client();
        let mut held = vec![register(&client, 0).await.unwrap()];
        fill(&ballast);
        let refused = loop {
            match register(&client, held.len()).await {
                Ok(registration) => held.push(registration),
                Err(error) => break error,
            }
        };
        assert!(refused.is_exhausted(), "{refused}");
        until("it is logged", || registry.process.stderr().contains("the disk is full"));
        assert_eq!(count(&client).await, held.len());
        held.pop().unwrap().close().await.unwrap();
        assert_eq!(count(&client).await, held.len());

        std::fs::remove_file(&ballast).unwrap();
        until("it found room", || registry.process.stderr().contains("there is room on the disk again"));
        held.push(register(&client, held.len()).await.unwrap());

        registry.process.kill();
        let registry = lab.registry_in(&directory);
        assert_eq!(count(&registry.client()).await, held.len());
        registry.stop();
    });
    drop(disk);
    lab.finish();
}

async fn register(client: &Client, number: usize) -> Result<Registration, netloft_client::Error> {
    let id = format!("i{number:06}-{}", "x".repeat(100));
    let address = "10.0.0.2".parse().unwrap();
    let instance = Instance::new(id.parse().unwrap(), "api".parse().unwrap(), address, "80".parse().unwrap());
    client.register(instance, RegisterOptions::default()).await
}

async fn count(client: &Client) -> usize {
    client.resolve(&Query::everything()).await.unwrap().instances.len()
}
