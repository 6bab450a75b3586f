//! The calls that all kinds of workers have in common.

use std::net::SocketAddr;
use std::time::Duration;

use hotpair_worker::{Error, Seq, Wait};

/// A message: its number, where it is from, and what it says.
pub(crate) type Message = (u64, Option<SocketAddr>, Vec<u8>);

pub(crate) trait AnyWorker {
    fn claim(&mut self, wait: Wait) -> Result<Option<Box<dyn AnyJob + '_>>, Error>;
    fn run(&mut self, wait: Wait, handler: Handler<'_>) -> Result<(), Error>;
    /// By which other threads stop it.
    fn stopper(&self) -> Box<dyn Fn() + Send + Sync>;
}

pub(crate) type Handler<'h> = &'h mut dyn FnMut(&mut dyn Calls) -> Result<(), Error>;

pub(crate) trait Calls {
    fn key(&self) -> Vec<u8>;
    fn slot(&self) -> u32;
    fn attempts(&self) -> u32;
    fn messages(&self) -> Vec<Message>;
    fn value(&self) -> Vec<u8>;
    fn count(&self) -> Result<Option<u64>, Error>;
    fn add(&mut self, by: u64) -> Result<u64, Error>;
    fn read(&self, queue: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
    fn set_value(&mut self, value: &[u8]) -> Result<(), Error>;
    fn emit(&mut self, port: &str, to: SocketAddr, payload: &[u8]) -> Result<(), Error>;
    fn send(&mut self, queue: &str, key: &[u8], payload: &[u8]) -> Result<(), Error>;
    fn create(&mut self, queue: &str, key: Option<&[u8]>, value: &[u8]) -> Result<(), Error>;
    fn create_ready(&mut self, queue: &str, key: Option<&[u8]>, value: &[u8]) -> Result<(), Error>;
    fn set_priority(&mut self, priority: u8);
    fn withdraw(&mut self);
    fn set_timer(&mut self, after: Duration);
    fn clear_timer(&mut self);
    fn timer(&self) -> Option<Duration>;
    fn timer_due(&self) -> bool;
    fn stay_ready(&mut self);
    /// Takes another object along, and does something with it.
    fn also(&mut self, queue: &str, key: &[u8], act: Act<'_>) -> Result<(), Error>;
    /// The same, and adds to what it counts.
    fn also_add(&mut self, queue: &str, key: &[u8], by: u64) -> Result<u64, Error>;
}

pub(crate) type Act<'a> = &'a mut dyn FnMut(&mut dyn OtherCalls);

pub(crate) trait OtherCalls {
    fn slot(&self) -> u32;
    fn key(&self) -> Vec<u8>;
    fn value(&self) -> Vec<u8>;
    fn set_value(&mut self, value: &[u8]) -> Result<(), Error>;
    fn set_timer(&mut self, after: Duration);
    fn clear_timer(&mut self);
    fn stay_ready(&mut self);
    fn set_priority(&mut self, priority: u8);
    fn withdraw(&mut self);
}

pub(crate) trait AnyJob: Calls {
    fn commit(self: Box<Self>) -> Result<Seq, Error>;
    fn commit_released(self: Box<Self>) -> Result<Seq, Error>;
    fn give_back(self: Box<Self>);
    fn fail(self: Box<Self>);
}

/// Two tests of each behaviour.
macro_rules! alike {
    ($($behaviour:ident),* $(,)?) => {
        mod local {
            $(#[test] fn $behaviour() {
                super::$behaviour(&mut crate::place::Place::new(crate::place::Side::Local));
            })*
        }
        mod remote {
            $(#[test] fn $behaviour() {
                super::$behaviour(&mut crate::place::Place::new(crate::place::Side::Remote));
            })*
        }
    };
}
pub(crate) use alike;
