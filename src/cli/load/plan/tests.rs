//! Who comes when, and to what.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn plan(arguments: &str) -> Result<Plan, BadPlan> {
    Plan::new(&Line::parse_from(["load"].into_iter().chain(arguments.split_whitespace())).args)
}

fn good(arguments: &str) -> Plan {
    plan(arguments).unwrap_or_else(|bad| panic!("{arguments}: {bad}"))
}

const TWO: &str = "--watch http://127.0.0.1:1/live/r-{n}.flv --watch rtmp://127.0.0.1/live/r-{n}";

#[test]
fn viewers_are_dealt_over_addresses_and_streams_and_so_are_the_sampled_ones() {
    let plan = good(&format!("{TWO} --publish rtmp://127.0.0.1/live/r-{{n}} --publishers 2 --viewers 400 --secs 9"));
    let publish: Vec<_> = plan.publish.iter().map(Url::as_str).collect();
    assert_eq!(publish, ["rtmp://127.0.0.1/live/r-0", "rtmp://127.0.0.1/live/r-1"]);
    let count = |of: &dyn Fn(&&Visit) -> bool| plan.visits.iter().filter(of).count();
    for url in ["http://127.0.0.1:1/live/r-0.flv", "rtmp://127.0.0.1/live/r-0", "rtmp://127.0.0.1/live/r-1"] {
        assert_eq!(count(&|visit| visit.target.url.as_str() == url), 100, "{url}");
        let sampled = count(&|visit| visit.target.url.as_str() == url && visit.is_sampled);
        assert!((5..=8).contains(&sampled), "{sampled} at {url}");
    }
    let rtmp = &plan.visits[1].target;
    assert_eq!((rtmp.index, rtmp.protocol, rtmp.address.port()), (1, Protocol::Rtmp, 1935));
}

#[test]
fn they_come_over_the_ramp_and_in_a_storm() {
    let plan = good(&format!("{TWO} --viewers 400 --storm 100@5 --secs 10"));
    let at = |nth: usize| plan.visits[nth].joins_at.as_secs_f64();
    assert!(at(0) == 0.0 && (at(200) - 1.0).abs() < 0.01 && at(399) < 2.0);
    assert!(at(400) == 5.0 && (at(450) - 5.5).abs() < 0.01 && plan.visits.len() == 500);
    assert_eq!(plan.joined_after.as_secs(), 6);
    assert!(plan.visits.iter().all(|visit| visit.leaves_at > plan.ends_after));
}

#[test]
fn with_churn_as_many_come_as_leave_and_the_oldest_leave_first() {
    let plan = good(&format!("{TWO} --viewers 100 --churn 10 --ramp 2 --secs 7"));
    assert_eq!(plan.visits.len(), 140);
    assert!(plan.visits.iter().all(|visit| visit.joins_at.as_secs() < 6), "early enough for a keyframe");
    for at_ms in (2000..7000).step_by(37) {
        let at = Duration::from_millis(at_ms);
        let there = plan.visits.iter().filter(|visit| visit.joins_at <= at && visit.leaves_at > at).count();
        assert_eq!(there, 100, "at {at_ms} ms");
    }
    let leaving: Vec<_> = plan.visits.iter().take(40).map(|visit| visit.leaves_at).collect();
    assert!(leaving.is_sorted() && leaving[39] < plan.ends_after);
}

#[test]
fn slow_viewers_are_as_many_as_asked_and_measure_nothing() {
    let plan = good(&format!("{TWO} --viewers 200 --slow 10 --kbit-per-s 800 --sample 1"));
    let slow: Vec<_> = plan.visits.iter().filter(|visit| visit.bytes_per_s_max.is_some()).collect();
    assert_eq!(slow.len(), 20);
    assert!(slow.iter().all(|visit| !visit.is_sampled && visit.bytes_per_s_max == Some(10_000)));
    assert_eq!(plan.visits.iter().filter(|visit| visit.is_sampled).count(), 180);
}

#[test]
fn events_go_into_the_streams_published_or_watched() {
    let names = |arguments: &str| -> Vec<String> {
        good(arguments).streams.iter().map(|(name, _)| name.as_str().to_owned()).collect()
    };
    assert_eq!(names("--publish rtmp://127.0.0.1/a/b-{n}?key=x --publishers 2 --events 1"), ["a/b-0", "a/b-1"]);
    assert_eq!(names("--watch http://127.0.0.1/live/room.flv --events 1"), ["live/room"]);
    assert!(names("--watch http://127.0.0.1/live/room.flv").is_empty());
}

#[test]
fn what_can_not_be_done_is_said() {
    for (arguments, said) in [
        ("--viewers 5", "nothing to do"),
        ("--watch ftp://127.0.0.1/x", "load watches rtmp"),
        ("--watch http://127.0.0.1/live/x", "load watches rtmp"),
        ("--watch nonsense?key=secret", "not a URL"),
        ("--publish http://127.0.0.1/a/b", "publishes over rtmp"),
        ("--publish rtmp://127.0.0.1/a/b?key=secret --publishers 2", "need {n}"),
        ("--watch rtmp://127.0.0.1/a/b --viewers 900000", "descriptors"),
        ("--watch rtmp://127.0.0.1/a/b --viewers 8000 --secs 30", "joining takes 40 s"),
        ("--watch rtmp://127.0.0.1/a/b --storm 10@19.5", "longer than the run of 20 s"),
        ("--watch rtmp://no-such-host.invalid/a/b", "no-such-host.invalid"),
        ("--watch rtmp://127.0.0.1/a/b%20c --events 1", "needs a stream's name"),
    ] {
        let bad = plan(arguments).expect_err(arguments).to_string();
        assert!(bad.contains(said) && !bad.contains("secret"), "{arguments}: {bad}");
    }
}
