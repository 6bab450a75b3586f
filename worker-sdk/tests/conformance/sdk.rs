//! Workers in Rust, local and remote. The same lines stand for both: what one of them lacks does not compile.

use std::net::SocketAddr;
use std::time::Duration;

use hotpair_worker::remote::{RemoteJob, RemoteOtherJob, RemoteSpace, RemoteWorker};
use hotpair_worker::testing::{Certificates, Host};
use hotpair_worker::{Error, Job, OtherJob, Seq, Space, Wait, Worker};

use crate::calls::{Act, AnyJob, AnyWorker, Calls, Handler, Message, OtherCalls};

pub(crate) fn local(space: &str, queue: &str) -> Result<Box<dyn AnyWorker + Send>, Error> {
    Ok(Box::new(Space::attach(space)?.worker(queue)?))
}

pub(crate) fn remote(
    host: &Host,
    certificates: &Certificates,
    queue: &str,
) -> Result<Box<dyn AnyWorker + Send>, Error> {
    let mut config = certificates.config(&[host]);
    config.prefetch = 1;
    Ok(Box::new(RemoteSpace::new(config).worker(queue)?))
}

macro_rules! same_calls {
    ($worker:ty, $job:ident, $other:ident) => {
        impl AnyWorker for $worker {
            fn claim(&mut self, wait: Wait) -> Result<Option<Box<dyn AnyJob + '_>>, Error> {
                Ok(<$worker>::claim(self, wait)?.map(|job| Box::new(job) as Box<dyn AnyJob + '_>))
            }
            fn run(&mut self, wait: Wait, handler: Handler<'_>) -> Result<(), Error> {
                <$worker>::run(self, wait, |job| handler(job))
            }
            fn stopper(&self) -> Box<dyn Fn() + Send + Sync> {
                let stopper = <$worker>::stopper(self);
                Box::new(move || stopper.stop())
            }
        }

        impl Calls for $job<'_> {
            fn key(&self) -> Vec<u8> {
                $job::key(self).to_vec()
            }
            fn slot(&self) -> u32 {
                $job::slot(self)
            }
            fn attempts(&self) -> u32 {
                $job::attempts(self)
            }
            fn messages(&self) -> Vec<Message> {
                let messages = $job::messages(self);
                messages.map(|m| (m.id(), m.source(), m.payload().to_vec())).collect()
            }
            fn value(&self) -> Vec<u8> {
                $job::value(self).to_vec()
            }
            fn count(&self) -> Result<Option<u64>, Error> {
                Ok(self.value_ref::<u64>()?.copied())
            }
            fn add(&mut self, by: u64) -> Result<u64, Error> {
                let count: &mut u64 = self.value_mut()?;
                *count += by;
                Ok(*count)
            }
            fn read(&self, queue: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
                let reading = $job::read(self, queue, key)?;
                Ok(reading.map(|reading| {
                    assert_eq!(reading.key(), key);
                    reading.value().to_vec()
                }))
            }
            fn set_value(&mut self, value: &[u8]) -> Result<(), Error> {
                $job::set_value(self, value)
            }
            fn emit(&mut self, port: &str, to: SocketAddr, payload: &[u8]) -> Result<(), Error> {
                $job::emit(self, port, to, payload)
            }
            fn send(&mut self, queue: &str, key: &[u8], payload: &[u8]) -> Result<(), Error> {
                $job::send(self, queue, key, payload)
            }
            fn create(
                &mut self,
                queue: &str,
                key: Option<&[u8]>,
                value: &[u8],
            ) -> Result<(), Error> {
                $job::create(self, queue, key, value)
            }
            fn create_ready(
                &mut self,
                queue: &str,
                key: Option<&[u8]>,
                value: &[u8],
            ) -> Result<(), Error> {
                $job::create_ready(self, queue, key, value)
            }
            fn set_priority(&mut self, priority: u8) {
                $job::set_priority(self, priority);
            }
            fn withdraw(&mut self) {
                $job::withdraw(self);
            }
            fn set_timer(&mut self, after: Duration) {
                $job::set_timer(self, after);
            }
            fn clear_timer(&mut self) {
                $job::clear_timer(self);
            }
            fn timer(&self) -> Option<Duration> {
                $job::timer(self)
            }
            fn timer_due(&self) -> bool {
                $job::timer_due(self)
            }
            fn stay_ready(&mut self) {
                $job::stay_ready(self);
            }
            fn also(&mut self, queue: &str, key: &[u8], act: Act<'_>) -> Result<(), Error> {
                let other = $job::also(self, queue, key)?;
                act(&mut self.other(other));
                Ok(())
            }
            fn also_add(&mut self, queue: &str, key: &[u8], by: u64) -> Result<u64, Error> {
                let other = $job::also(self, queue, key)?;
                let count: &mut u64 = self.other(other).value_mut()?;
                *count += by;
                Ok(*count)
            }
        }

        impl OtherCalls for $other<'_> {
            fn slot(&self) -> u32 {
                $other::slot(self)
            }
            fn key(&self) -> Vec<u8> {
                $other::key(self).to_vec()
            }
            fn value(&self) -> Vec<u8> {
                $other::value(self).to_vec()
            }
            fn set_value(&mut self, value: &[u8]) -> Result<(), Error> {
                $other::set_value(self, value)
            }
            fn set_timer(&mut self, after: Duration) {
                $other::set_timer(self, after);
            }
            fn clear_timer(&mut self) {
                $other::clear_timer(self);
            }
            fn stay_ready(&mut self) {
                $other::stay_ready(self);
            }
            fn set_priority(&mut self, priority: u8) {
                $other::set_priority(self, priority);
            }
            fn withdraw(&mut self) {
                $other::withdraw(self);
            }
        }

        impl AnyJob for $job<'_> {
            fn commit(self: Box<Self>) -> Result<Seq, Error> {
                $job::commit(*self)
            }
            fn commit_released(self: Box<Self>) -> Result<Seq, Error> {
                $job::commit_released(*self)
            }
            fn give_back(self: Box<Self>) {
                $job::give_back(*self);
            }
            fn fail(self: Box<Self>) {
                $job::fail(*self);
            }
        }
    };
}

same_calls!(Worker, Job, OtherJob);
same_calls!(RemoteWorker, RemoteJob, RemoteOtherJob);
