//! Uses of messages that are resources.

use crate::exports::wasmcloud::messaging::incoming_handler::Guest;
use crate::wasmcloud::messaging::producer::send;
use crate::wasmcloud::messaging::request_reply::{reply, request, RequestOptions};
use crate::wasmcloud::messaging::types::{Client, Error, Message};
use crate::User;

impl Guest for User {
    /// What it does is what the message says.
    fn handle(message: Message) -> Result<(), Error> {
        let said = message.data();
        let client = Client::connect("default")?;
        match said.as_slice() {
            b"send" => {
                send(&client, "elsewhere", Message::new(message.topic().as_bytes()))?;
                client.disconnect()
            }
            b"ask" => {
                let options = RequestOptions::new();
                options.set_timeout_ms(700);
                options.set_expected_replies(1);
                for answer in request(&client, &message, Some(options))? {
                    reply(&message, answer)?;
                }
                Ok(())
            }
            b"ask-nobody" => request(&client, &Message::new(b"?"), None).map(|_| ()),
            b"describe" => {
                let answer = Message::new(b"");
                answer.set_content_type("text/plain");
                answer.set_metadata(&vec![("a".into(), "1".into()), ("b".into(), "2".into())]);
                answer.add_metadata("a", "3");
                answer.remove_metadata("b");
                let described = format!("{:?} {:?}", answer.content_type(), answer.metadata());
                answer.set_data(described.as_bytes());
                reply(&message, answer)
            }
            b"hoard" => {
                let mut all = vec![];
                loop {
                    all.push(Message::new(&[0; 100_000]));
                }
            }
            b"fail" => Err(Error::Other("it was asked to".into())),
            b"wait" => Err(Error::Timeout),
            _ => reply(&message, Message::new(&said)),
        }
    }
}
