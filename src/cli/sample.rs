//! The sample anchor of `hawker dev`: the built-in clip on air, and a product card every ten seconds.

use std::time::Duration;

use serde_json::{Value, json};

use super::push;

/// The sample's stream.
const NAME: &str = "live/sample";
/// How often a card is shown.
const CARD_EVERY: Duration = Duration::from_secs(10);

/// Publishes to the origin at `rtmp`, sends cards to the one at `http`, until it is dropped.
pub(super) async fn run(rtmp: &str, key: &str, http: &str, token: &str) {
    let url = format!("{rtmp}/{NAME}?key={key}");
    let stop = std::future::pending::<()>();
    let (published, ()) = tokio::join!(push::run_sample(&url, stop), cards(http, token));
    if let Err(error) = published {
        tracing::warn!(%error, "the sample anchor left");
    }
}

async fn cards(http: &str, token: &str) {
    let url = format!("{http}/v1/streams/{NAME}/events");
    let client = reqwest::Client::new();
    let mut every = tokio::time::interval(CARD_EVERY);
    for product in products().iter().cycle() {
        every.tick().await;
        let card = json!({"type": "card.show", "op": "set", "key": "card:main", "data": product});
        match client.post(&url).bearer_auth(token).json(&card).send().await {
            Ok(answer) if answer.status().is_success() => {}
            // At first, and while somebody else has the stream, there may be no frame to carry it.
            Ok(answer) => tracing::debug!(status = %answer.status(), "card not accepted"),
            Err(error) => tracing::warn!(%error, "card not sent"),
        }
    }
}

fn products() -> [Value; 3] {
    [
        json!({"sku": "COAT-1", "name": "Wool coat", "currency": "CNY", "price_minor": 89900, "number": 1}),
        json!({"sku": "TEA-7", "name": "Spring tea, 250 g", "currency": "CNY", "price_minor": 12800, "number": 2}),
        json!({"sku": "LAMP-3", "name": "Desk lamp", "currency": "CNY", "price_minor": 25900, "number": 3}),
    ]
}
