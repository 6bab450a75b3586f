//! `hotpair.testing.Pair`: the testing kit, for Python.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hotpair_worker::testing::{Certificates, Packet, Pair as Kit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::job::{Bytes, address, tuple};
use crate::worker::seconds;

/// A pair in this process.
#[pyclass(frozen, module = "hotpair.testing")]
pub(crate) struct Pair {
    kit: Mutex<Kit>,
    /// Of the gateways, if there are any.
    certificates: Option<Certificates>,
}

impl Pair {
    fn kit(&self) -> MutexGuard<'_, Kit> {
        self.kit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Found<'py> = (String, Option<(String, u16)>, Bound<'py, PyBytes>);

fn found<'py>(py: Python<'py>, packet: &Packet) -> Found<'py> {
    (packet.port.clone(), tuple(packet.to), PyBytes::new(py, &packet.payload))
}

#[pymethods]
impl Pair {
    #[new]
    #[pyo3(signature = (queues, ports=Vec::new(), *, gateways=false))]
    fn new(queues: Vec<String>, ports: Vec<String>, gateways: bool) -> Pair {
        let queues: Vec<&str> = queues.iter().map(String::as_str).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        let mut kit = Kit::new(&queues, &ports);
        let certificates = gateways.then(Certificates::new);
        if let Some(certificates) = &certificates {
            kit.primary_mut().open("node-a", certificates);
            if let Some(backup) = kit.backup_mut() {
                backup.open("node-b", certificates);
            }
        }
        Pair { kit: Mutex::new(kit), certificates }
    }

    /// The region of the host that serves.
    #[getter]
    fn space(&self) -> String {
        self.kit().primary().name().to_owned()
    }

    /// Directory of the certificates, for remote workers.
    #[getter]
    fn pki(&self) -> Option<String> {
        self.certificates.as_ref().map(|certificates| certificates.path().display().to_string())
    }

    /// The nodes, as `attach_remote` wants them.
    #[getter]
    fn nodes(&self) -> Option<String> {
        self.certificates.as_ref()?;
        let kit = self.kit();
        let hosts = std::iter::once(kit.primary()).chain(kit.backup());
        let node = |host: &hotpair_worker::testing::Host| {
            let node = host.node();
            format!("{}={}", node.member, node.addresses[0])
        };
        Some(hosts.map(node).collect::<Vec<_>>().join(";"))
    }

    /// A message to the object of `queue` that bears `key`, or to a new one.
    #[pyo3(signature = (queue, key, payload, source=("127.0.0.1".to_owned(), 5060)))]
    fn deliver(
        &self,
        queue: &str,
        key: Bytes<'_, '_>,
        payload: Bytes<'_, '_>,
        source: Option<(String, u16)>,
    ) -> PyResult<()> {
        let source = source.map(|(ip, port)| address((&ip, port))).transpose()?;
        self.kit().deliver_from(queue, &key, source, &payload);
        Ok(())
    }

    /// What has left so far: port, address, bytes.
    fn packets<'py>(&self, py: Python<'py>) -> Vec<Found<'py>> {
        self.kit().packets().iter().map(|packet| found(py, packet)).collect()
    }

    /// The next packet that leaves by `port`; waits for it.
    fn next_packet<'py>(&self, py: Python<'py>, port: &str) -> Found<'py> {
        let packet = py.detach(|| self.kit().next_packet(port));
        found(py, &packet)
    }

    /// What is known of an object; None if there is none.
    fn object(
        &self,
        py: Python<'_>,
        queue: &str,
        key: Bytes<'_, '_>,
    ) -> PyResult<Option<HashMap<&'static str, Py<PyAny>>>> {
        let Some(object) = self.kit().object(queue, &key) else { return Ok(None) };
        let value = PyBytes::new(py, &object.value).into_any().unbind();
        let state = object.state.to_string().into_pyobject(py)?.into_any().unbind();
        let attempts = object.attempts.into_pyobject(py)?.into_any().unbind();
        let waiting = object.waiting.into_pyobject(py)?.into_any().unbind();
        let known =
            [("value", value), ("state", state), ("attempts", attempts), ("waiting", waiting)];
        Ok(Some(HashMap::from(known)))
    }

    /// Lets so many seconds pass for the timers of all objects.
    fn advance(&self, by: f64) -> PyResult<()> {
        self.kit().advance(seconds(by)?);
        Ok(())
    }

    /// While held nothing is shipped and nothing released.
    fn hold(&self, held: bool) {
        self.kit().hold(held);
    }

    /// The primary is lost with whatever was not released; the other one serves.
    fn kill_primary(&self, py: Python<'_>) {
        py.detach(|| self.kit().kill_primary());
    }
}
