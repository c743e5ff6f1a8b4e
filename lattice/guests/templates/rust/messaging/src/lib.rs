//! {{name}}: answers every message whose sender waits with a greeting.

wit_bindgen::generate!({ world: "actor", path: "wit", generate_all });

use exports::wasmcloud::messaging::handler::Guest;
use wasmcloud::messaging::consumer;
use wasmcloud::messaging::types::BrokerMessage;

struct Actor;

export!(Actor);

impl Guest for Actor {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        println!("{}", message.subject);
        let Some(reply_to) = message.reply_to else {
            return Ok(());
        };
        let greeting = format!("Hello, {}!", String::from_utf8_lossy(&message.body));
        consumer::publish(&BrokerMessage {
            subject: reply_to,
            body: greeting.into_bytes(),
            reply_to: None,
        })
    }
}
