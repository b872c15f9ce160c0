//! The OpenAPI document says what the router does, and nothing else.

use std::collections::BTreeSet;

use super::*;
use crate::control::auth::roles;

#[tokio::test(start_paused = true)]
async fn every_route_is_in_the_document_and_the_other_way_round() {
    let desk = desk(|_| ());
    let (status, document) = desk.get("/v1/openapi.json", None).await;
    assert_eq!((status, &document["openapi"]), (StatusCode::OK, &json!("3.1.0")));
    let paths = document["paths"].as_object().expect("paths");
    let documented: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    let routes = include_str!("../mod.rs").split(".route(\"").skip(1);
    let routed: BTreeSet<&str> = routes.filter_map(|route| Some(route.split_once('"')?.0)).collect();
    assert_eq!(documented, routed);

    let calls = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("methods").keys();
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    let listed = roles::CALLS.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(calls.collect::<BTreeSet<_>>(), listed.collect(), "what each call needs stands in the table of roles");

    for (path, item) in paths {
        let path = path.replace("{name}", "live/room").replace("{org}", "live").replace("{id}", "01ARZ");
        let request = Request::patch(&path).body(Body::empty()).expect("a request");
        let (status, headers, _) = desk.send(request).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let allowed = headers[header::ALLOW].to_str().expect("text").split(',').filter(|method| *method != "HEAD");
        let documented = item.as_object().expect("methods").keys().map(|method| method.to_uppercase());
        assert_eq!(allowed.map(str::to_owned).collect::<BTreeSet<_>>(), documented.collect(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_reference_leads_somewhere_and_every_call_has_its_own_name() {
    fn walk<'a>(value: &'a Value, found: &mut Vec<(&'a str, &'a str)>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| match value {
                Value::String(text) => found.push((key, text)),
                other => walk(other, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let (_, document) = desk(|_| ()).get("/v1/openapi.json", None).await;
    let mut texts = Vec::new();
    walk(&document, &mut texts);
    let of = |wanted: &'static str| texts.iter().filter(move |(key, _)| *key == wanted).map(|(_, text)| *text);
    for reference in of("$ref") {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let names: BTreeSet<_> = of("operationId").collect();
    assert_eq!(names.len(), of("operationId").count(), "{names:?}");
}
