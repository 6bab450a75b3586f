use super::super::notices::{self, Notices};
use super::*;

fn place(name: &str) -> std::path::PathBuf {
    std::path::PathBuf::from(format!("/nowhere/{}-{name}", std::process::id()))
}

fn failover(timeout_ms: u32) -> Request {
    Request::Failover { timeout_ms }
}

fn start(name: &str) -> (Control, Notices<Notice>, std::path::PathBuf) {
    let (tell, notices) = notices::channel();
    let place = place(name);
    (Control::start(&place, tell).expect("nobody has the name"), notices, place)
}

/// Answers the next request as the loop would.
fn serve_one(notices: &Notices<Notice>) -> Request {
    loop {
        match notices.next_ready() {
            Some(Notice::Asked(Asked { request, answer, .. })) => {
                let reply = Reply { epoch: Some(7), ..Reply::new(Outcome::Done, "") };
                answer.send(reply).expect("somebody waits");
                return request;
            }
            Some(other) => panic!("{other:?}"),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[test]
fn a_question_reaches_the_loop_and_its_answer_the_asker() {
    let (control, notices, place) = start("asks");
    let asker = thread::spawn({
        let place = place.clone();
        move || ask(&place, failover(5_000))
    });
    assert_eq!(serve_one(&notices), failover(5_000));
    let reply = asker.join().expect("no panic").expect("it was answered");
    assert_eq!((reply.outcome, reply.epoch), (Outcome::Done, Some(7)));
    drop(control);
    assert!(matches!(ask(&place, failover(1)), Err(AskError::NotRunning { .. })));
    // The name is free again at once.
    drop(Control::start(&place, notices::channel().0).expect("as after a restart"));
}

#[test]
fn a_loop_that_stands_still_is_a_time_out() {
    let (_control, _notices, place) = start("still");
    let reply = ask(&place, failover(10)).expect("the thread answers for the loop");
    assert_eq!(reply.outcome, Outcome::TimedOut);
}

/// Goal: who trickles, floods or talks nonsense keeps no honest client waiting.
#[test]
fn bad_clients_harm_nobody() {
    let (_control, notices, place) = start("bad");
    let user = geteuid().as_raw();
    let dial = || dial(&place, user).expect("it listens");

    let mut nonsense = dial();
    nonsense.write_all(b"{\"do\":\"dance\"}\n").expect("it is read");
    let until = Instant::now() + Duration::from_secs(20);
    let answer = read_line(&mut nonsense, until).expect("an answer");
    let reply: Reply = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(reply.outcome, Outcome::Bad);

    // A line without an end is cut off, and so is one that never comes.
    let mut endless = dial();
    let flood = vec![b'x'; 64 << 10];
    let cut = (0..100).any(|_| endless.write_all(&flood).is_err());
    assert!(cut, "six megabytes were taken from a client");
    let mut trickling: Vec<_> = (0..CLIENTS_MAX + 2).map(|_| dial()).collect();
    for client in &mut trickling {
        let _ = client.write_all(b"{");
    }
    for client in &mut trickling {
        let until = Instant::now() + Duration::from_secs(20);
        read_line(client, until).expect_err("it is let go of");
    }

    let asker = thread::spawn({
        let place = place.clone();
        move || ask(&place, failover(5_000))
    });
    serve_one(&notices);
    assert_eq!(asker.join().expect("no panic").expect("answered").outcome, Outcome::Done);
}
