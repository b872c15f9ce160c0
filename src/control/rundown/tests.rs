use super::*;

fn item(title: &str, planned_ms: u32, sku: Option<&str>) -> Item {
    let sku = sku.map(str::to_owned);
    Item { sku, title: title.into(), class: "pitch".into(), planned_ms, number: Some(17), data: Map::new() }
}

fn show() -> Rundown {
    let items = vec![item("hook", 1_000, None), item("coat", 2_000, Some("S1")), item("scarf", 3_000, Some("S2"))];
    Rundown::new(Plan { items })
}

fn at(wall_ms: i64) -> Start {
    Start { wall_ms, pts_us: Some(wall_ms * 1000), seq: Some(7) }
}

fn to(index: usize) -> Wish {
    Wish { to: Some(index), ..Wish::default() }
}

fn expect(current: Option<usize>) -> Wish {
    Wish { expect: Some(current), ..Wish::default() }
}

/// Makes the advance, and says what it published.
fn go(rundown: &mut Rundown, wish: Wish, wall_ms: i64) -> Vec<String> {
    let step = rundown.step(&wish).expect("allowed").expect("something to do");
    rundown.advance(&step, at(wall_ms), None);
    step.drafts.iter().map(|draft| format!("{} {}", draft["type"], draft["key"]).replace('"', "")).collect()
}

#[test]
fn each_advance_ends_what_was_and_starts_what_comes() {
    let mut show = show();
    assert_eq!(go(&mut show, Wish::default(), 0), ["chapter.start chapter"]);
    let step = show.step(&Wish::default()).expect("allowed").expect("a step");
    assert_eq!(
        step.drafts.iter().map(|draft| &draft["data"]).collect::<Vec<_>>(),
        [
            &json!({"number": 2, "title": "coat", "kind": "pitch", "skus": ["S1"], "planned_ms": 2_000}),
            &json!({"name": "coat", "sku": "S1", "number": 17}),
        ]
    );
    assert_eq!(go(&mut show, Wish::default(), 1), ["chapter.start chapter", "card.show card:main"]);
    let last = ["card.hide card:main", "chapter.start chapter", "card.show card:main"];
    assert_eq!(go(&mut show, Wish::default(), 2), last);
    assert_eq!(go(&mut show, Wish::default(), 3), ["card.hide card:main"]);
    assert_eq!(show.step(&Wish::default()), Err(Conflict::Over));
    assert_eq!(show.step(&to(3)), Err(Conflict::NotOnAir));
    assert_eq!(show.step(&to(4)), Err(Conflict::NoSuchItem(3)));
    assert_eq!(go(&mut show, to(1), 4), ["chapter.start chapter", "card.show card:main"], "an encore");
}

#[test]
fn a_card_has_the_items_data_and_may_have_a_name_of_its_own() {
    let mut coat = item("Why this coat", 1_000, Some("S1"));
    coat.data = json!({"name": "Wool coat", "price_minor": 89_900, "sku": "other"}).as_object().expect("one").clone();
    let card = &coat.events(0)[1]["data"];
    assert_eq!(*card, json!({"name": "Wool coat", "price_minor": 89_900, "sku": "S1", "number": 17}));
}

#[test]
fn a_click_too_many_changes_nothing() {
    let mut show = show();
    go(&mut show, expect(None), 0);
    assert_eq!(show.step(&expect(None)), Err(Conflict::Elsewhere(Some(0))));
    go(&mut show, expect(Some(0)), 1);
    assert_eq!(show.step(&expect(Some(0))), Err(Conflict::Elsewhere(Some(1))));
    assert_eq!(show.step(&to(1)), Ok(None), "it is there already");
    let wish = |text| serde_json::from_str::<Wish>(text).expect("a wish");
    assert_eq!(wish(r#"{"expect": null}"#), expect(None));
    assert_eq!(wish("{}"), Wish::default());
}

#[test]
fn an_event_has_one_id_for_each_time_it_is_meant_and_no_other() {
    let ids = |rundown: &Rundown, wish: Wish| -> Vec<String> {
        let step = rundown.step(&wish).expect("allowed").expect("a step");
        step.drafts.iter().map(|draft| draft["id"].as_str().expect("an id").to_owned()).collect()
    };
    let mut show = show();
    let first = ids(&show, to(1));
    assert_eq!(ids(&show.clone(), to(1)), first, "the same again until it is made");
    assert!(first.iter().all(|id| id.parse::<Ulid>().is_ok()));
    let mut all = vec![first, ids(&show, to(2)), ids(&Rundown::new(show.plan.clone()), to(1))];
    go(&mut show, to(1), 0);
    go(&mut show, to(0), 1);
    all.push(ids(&show, to(1)));
    // A plan that changes before an advance is repeated makes other events.
    show.plan.items[1].planned_ms += 1;
    all.push(ids(&show, to(1)));
    let chapters: std::collections::BTreeSet<_> = all.iter().map(|ids| &ids[ids.len() - 2]).collect();
    assert_eq!(chapters.len(), all.len(), "{all:?}");
}

#[test]
fn plan_and_actual_stand_side_by_side() {
    let mut show = show();
    let before = show.view(5_000);
    assert_eq!((before.state, before.began_wall_ms, before.totals.drift_ms), (view::State::Planned, None, None));
    go(&mut show, Wish::default(), 10_000);
    go(&mut show, Wish::default(), 11_500);
    let rows = |show: &Rundown, now_ms: i64| -> Vec<_> {
        let view = show.view(now_ms);
        view.items.iter().map(|row| (row.planned_start_ms, row.actual_start_ms, row.actual_ms, row.drift_ms)).collect()
    };
    let hook = (0, Some(0), Some(1_500), Some(0));
    let scarf = (3_000, None, None, None);
    assert_eq!(rows(&show, 12_000), [hook, (1_000, Some(1_500), Some(500), Some(500)), scarf]);
    let on_air = show.view(12_000);
    assert_eq!((on_air.state, on_air.current, on_air.began_wall_ms), (view::State::OnAir, Some(1), Some(10_000)));
    assert_eq!(on_air.totals, Totals { planned_ms: 6_000, actual_ms: 2_000, drift_ms: Some(500) });
    assert_eq!((on_air.items[1].wall_ms, on_air.items[1].pts_us), (Some(11_500), Some(11_500_000)));
    assert_eq!(show.view(14_000).totals.drift_ms, Some(1_000), "an overrun counts as it grows");
    assert_eq!(rows(&show, 11_450)[1].2, Some(0), "its frame is still to come");
    go(&mut show, Wish::default(), 12_500);
    assert_eq!(show.view(12_500).totals.drift_ms, Some(-500), "made good");
    go(&mut show, Wish::default(), 15_000);
    let after = show.view(99_000);
    assert_eq!((after.state, after.current), (view::State::Done, None));
    assert_eq!(after.totals, Totals { planned_ms: 6_000, actual_ms: 5_000, drift_ms: Some(-1_000) });
}

#[test]
fn a_show_that_begins_in_the_middle_or_comes_back_to_an_item_keeps_its_times_right() {
    let mut show = show();
    go(&mut show, to(2), 10_000);
    assert_eq!(show.view(10_000).items[2].drift_ms, Some(0), "the first start sets the clock");
    assert_eq!(show.view(10_000).began_wall_ms, Some(7_000));
    go(&mut show, to(0), 11_000);
    go(&mut show, to(2), 12_000);
    let view = show.view(12_300);
    assert_eq!((view.items[2].actual_ms, view.items[2].wall_ms), (Some(1_300), Some(10_000)));
    assert_eq!(view.totals.drift_ms, Some(2_000));
}

#[test]
fn a_new_plan_leaves_what_has_been_on_air() {
    let mut show = show();
    let id = show.show;
    let plan = |titles: &[&str]| -> Plan {
        let old = super::tests::show().plan.items;
        let find = |title: &str| old.iter().find(|item| item.title == title).cloned();
        let items = titles.iter().map(|title| find(title).unwrap_or_else(|| item(title, 500, None))).collect();
        Plan { items }
    };
    let fresh = show.clone().replace(plan(&["coat"])).expect("not begun");
    assert_ne!(fresh.show, id, "another show");
    go(&mut show, Wish::default(), 0);
    go(&mut show, Wish::default(), 1);
    let changed = show.clone().replace(plan(&["hook", "coat", "gloves", "scarf"])).expect("the rest may change");
    assert_eq!((changed.show, changed.view(2).current), (id, Some(1)));
    assert_eq!(show.clone().replace(plan(&["coat", "hook"])), Err(Conflict::Aired(0)));
    assert_eq!(show.clone().replace(plan(&["hook"])), Err(Conflict::Aired(1)));
    go(&mut show, to(3), 2);
    assert_ne!(show.replace(plan(&["scarf"])).expect("over").show, id);
}

#[test]
fn the_newest_keys_are_known_and_all_of_it_survives_being_stored() {
    let mut show = show();
    let keys: Vec<_> = (0..=limits::RUNDOWN_KEYS_MAX).map(|_| Ulid::new()).collect();
    for (n, key) in keys.iter().enumerate() {
        let step = show.step(&to(n % 2)).expect("allowed").expect("a step");
        show.advance(&step, at(0), Some(*key));
    }
    let known: Vec<_> = keys.iter().map(|key| show.has_done(*key)).collect();
    assert_eq!((known[0], known[1], known[limits::RUNDOWN_KEYS_MAX]), (false, true, true));
    let stored = serde_json::to_vec(&show).expect("json");
    assert_eq!(serde_json::from_slice::<Rundown>(&stored).expect("a rundown"), show);
}
