//! front: takes texts over HTTP and has them analysed by whoever it is linked to.
//!
//! POST / answers with what example:text/analyse says of the body. To this component that is a call
//! of a function; which component answers it, and on which host, is the link's business.

mod web;

use web::example::text::analyse::{Refusal, Report, analyse};
use web::{Request, Response};

const COMMON_MAX: u32 = 3;

fn answer(request: Request) -> Response {
    if request.method != "POST" {
        let mut response = Response::text(405, "send a text with POST\n".into());
        response.headers.push(("allow".into(), b"POST".into()));
        return response;
    }
    let Ok(text) = String::from_utf8(request.body) else {
        return Response::text(400, "the text must be UTF-8\n".into());
    };
    match analyse(&text, COMMON_MAX) {
        Ok(report) => Response::text(200, written(&report)),
        Err(Refusal::NoWords) => Response::text(422, "there is no word in it\n".into()),
        Err(Refusal::TooLong(most)) => Response::text(413, format!("more than {most} bytes\n")),
    }
}

fn written(report: &Report) -> String {
    let mut text = format!("{} words in {} sentences\n", report.words, report.sentences);
    for word in &report.common {
        text += &format!("{} {}\n", word.count, word.text);
    }
    text
}
