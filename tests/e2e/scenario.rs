//! `netloft up`: a whole scenario in one process, and not a trace of it afterwards.

use netloft_tests::Lab;
use netloft_tests::programs::source_dir;
use netloft_tests::running::{eventually, signal};
use netloft_tests::tell;
use nix::sys::signal::Signal;

pub(crate) fn the_example_runs_and_leaves_nothing() {
    let lab = Lab::new();
    let example = source_dir().join("examples/demo.toml");
    let ended = lab.netloft(&["up", example.to_str().unwrap(), "--for", "11s"]);
    let told = ended.success();
    let sum = told.lines().last().unwrap();
    assert!(sum.contains(" calls answered, 0 failed,"), "{told}");
    let farewell = line(&told, "was gone from every watch");
    assert!(farewell.contains("web-2@") && farewell.ends_with("and resolve answers without it"), "{told}");
    assert!(told.contains("web-2 is killed (kill -9 ") && told.contains("web-2 is started again"), "{told}");
    let welcomes =
        told.lines().filter(|line| line.contains("web-2@") && line.contains("is ready and in every answer"));
    assert_eq!(welcomes.count(), 2, "{told}");

    // Three fifths; a little more while one of the others was away, 2 s of 11.
    let shares = ["web-1", "web-2", "web-3"].map(|name| share(&told, name));
    tell(format_args!("weights 3, 1, 1 got {shares:?} % of the calls; {}", farewell.trim()));
    assert!((57..=70).contains(&shares[0]), "{told}");
    assert!((12..=22).contains(&shares[1]) && (15..=26).contains(&shares[2]), "{told}");
    assert_eq!(share(&told, "store-1"), 100, "{told}");
    lab.finish();
}

pub(crate) fn an_interrupted_scenario_leaves_nothing() {
    for end in [Signal::SIGINT, Signal::SIGTERM] {
        let lab = Lab::new();
        let mut up = lab.spawn(&["up", source_dir().join("examples/demo.toml").to_str().unwrap()]);
        up.line("store-1@");
        assert!(!lab.traces().files.is_empty(), "its socket");
        up.signal(end);
        let told = up.wait().success();
        assert!(told.lines().last().unwrap().contains("0 failed"), "{told}");
        lab.finish();
    }
}

pub(crate) fn a_process_killed_by_somebody_else_is_missed_and_started_again() {
    let lab = Lab::new();
    let scenario = lab.file(
        "scenario.toml",
        r#"
        [network.demo]
        subnets = ["10.89.0.0/24"]
        [[sandbox]]
        name = "web-1"
        network = "demo"
        service = { name = "web", port = 8080 }
        command = ["netloft", "demo", "serve"]
        restart = "0s"
        "#,
    );
    let mut up = lab.spawn(&["up", scenario.to_str().unwrap()]);
    up.line("is ready and in every answer");
    let target = target(&up.line("registry  unix://"));
    for round in 1..=5 {
        let endpoint = eventually("its process", || {
            let status = lab.json(&["--agent", &target, "status"]);
            let is_ready = status["instances"][0]["lifecycle"] == "ready";
            let pid = status["endpoints"][0]["pid"].as_u64();
            if is_ready { pid } else { None }
        });
        signal(endpoint.try_into().unwrap(), Signal::SIGKILL);
        eventually("its return", || {
            let told = up.stdout();
            let has = |part: &str| told.matches(part).count() >= round;
            (has("web-1 has ended (signal: 9 (SIGKILL))") && has("web-1 is started again")).then_some(())
        });
        eventually("it is ready again", || {
            (up.stdout().matches("is ready and in every answer").count() > round).then_some(())
        });
    }
    up.stop().success();
    lab.finish();
}

/// The target in the line that tells where the registry is.
fn target(line: &str) -> String {
    line.split_whitespace().nth(1).unwrap().to_owned()
}

fn line<'a>(told: &'a str, part: &str) -> &'a str {
    told.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part:?} in {told}"))
}

/// The share of the calls, in percent, in the last table.
fn share(told: &str, sandbox: &str) -> u32 {
    let row = told.lines().rfind(|line| line.starts_with(&format!("{sandbox} "))).unwrap();
    let share = row.rsplit_once('(').and_then(|(_, rest)| rest.strip_suffix(" %)"));
    share.unwrap_or_else(|| panic!("no share in {row:?}")).parse().unwrap()
}
