//! Failing when told to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netloft_nft::Fact;
use netloft_types::{Family, InterfaceName, Port, PortRange, Protocol, SandboxName};

use crate::kernel::{HostFacts, Kernel, KernelError, SandboxNetns, Stray, Survey};
use crate::plan::{Step, Undo};

/// When a kernel is to fail. Its calls are counted from 0: steps, undos, reaping and reading alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Call number so much does nothing and fails.
    Before(u64),
    /// Call number so much does its work and fails nevertheless, as when the answer is lost.
    After(u64),
    /// The caller dies (panics) on call number so much, before anything is done.
    DieBefore(u64),
    /// The caller dies (panics) on call number so much, when its work is done.
    DieAfter(u64),
}

impl Fault {
    /// The call at which it is to fail.
    pub fn call(self) -> u64 {
        match self {
            Self::Before(call) | Self::After(call) | Self::DieBefore(call) | Self::DieAfter(call) => call,
        }
    }
}

/// The faults of a kernel. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<(u64, Vec<Fault>)>>);

impl Faults {
    /// Fails once, at that call.
    pub fn plan(&self, fault: Fault) {
        self.lock().1.push(fault);
    }

    /// Fails at no call any more.
    pub fn clear(&self) {
        self.lock().1.clear();
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.lock().0
    }

    /// Counts a call, and lets it fail if it is to.
    pub(crate) fn call<T>(&self, work: impl FnOnce() -> Result<T, KernelError>) -> Result<T, KernelError> {
        let (call, faults) = {
            let mut planned = self.lock();
            planned.0 += 1;
            (planned.0 - 1, planned.1.clone())
        };
        let planned = Err(KernelError::Planned { call });
        assert!(!faults.contains(&Fault::DieBefore(call)), "the caller dies before call {call}");
        if faults.contains(&Fault::Before(call)) {
            return planned;
        }
        let outcome = work()?;
        assert!(!faults.contains(&Fault::DieAfter(call)), "the caller dies after call {call}");
        if faults.contains(&Fault::After(call)) { planned } else { Ok(outcome) }
    }

    /// A panic while the lock was held is a failed test already; what others see then does not matter.
    fn lock(&self) -> MutexGuard<'_, (u64, Vec<Fault>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another kernel, with faults in its steps and undos.
#[derive(Debug)]
pub struct Faulty<K> {
    kernel: K,
    faults: Faults,
}

impl<K: Kernel> Faulty<K> {
    /// A kernel that fails as planned.
    pub fn new(kernel: K, faults: Faults) -> Self {
        Self { kernel, faults }
    }
}

impl<K: Kernel> Kernel for Faulty<K> {
    fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        self.faults.call(|| self.kernel.apply(step))
    }

    fn undo(&mut self, undo: &Undo) -> Result<(), KernelError> {
        self.faults.call(|| self.kernel.undo(undo))
    }

    fn reap(&mut self, released: &[IpAddr]) -> Result<(), KernelError> {
        self.kernel.reap(released)
    }

    fn forget_connections(&mut self, addresses: &[IpAddr]) -> Result<(), KernelError> {
        self.kernel.forget_connections(addresses)
    }

    fn stock_up(&mut self) -> Result<bool, KernelError> {
        self.kernel.stock_up()
    }

    fn survey(&mut self) -> Result<Survey, KernelError> {
        self.kernel.survey()
    }

    fn adopt(&mut self, step: &Step, survey: &Survey) -> Result<bool, KernelError> {
        self.kernel.adopt(step, survey)
    }

    fn differs(&mut self, step: &Step, survey: &Survey) -> Result<Option<String>, KernelError> {
        self.kernel.differs(step, survey)
    }

    fn discard(&mut self, stray: &Stray) -> Result<(), KernelError> {
        self.kernel.discard(stray)
    }

    fn establish(&mut self, facts: &BTreeSet<Fact>) -> Result<(), KernelError> {
        self.kernel.establish(facts)
    }

    fn dismantle(&mut self) -> Result<(), KernelError> {
        self.kernel.dismantle()
    }

    fn is_filter_disturbed(&mut self) -> Result<bool, KernelError> {
        self.kernel.is_filter_disturbed()
    }

    fn audit(&mut self, facts: &BTreeSet<Fact>) -> Result<Vec<String>, KernelError> {
        self.kernel.audit(facts)
    }

    fn forward(&mut self, family: Family, on: bool) -> Result<(), KernelError> {
        self.kernel.forward(family, on)
    }

    fn host(&mut self) -> Result<HostFacts, KernelError> {
        self.kernel.host()
    }

    fn is_link(&mut self, name: &InterfaceName) -> Result<bool, KernelError> {
        self.kernel.is_link(name)
    }

    fn reserved_ports(&mut self) -> Result<BTreeSet<PortRange>, KernelError> {
        self.kernel.reserved_ports()
    }

    fn default_deny(&mut self) -> Result<Vec<String>, KernelError> {
        self.kernel.default_deny()
    }

    fn is_port_busy(&mut self, protocol: Protocol, address: Option<IpAddr>, port: Port) -> bool {
        self.kernel.is_port_busy(protocol, address, port)
    }

    fn sandbox(&self, sandbox: &SandboxName) -> Result<SandboxNetns, KernelError> {
        self.faults.call(|| self.kernel.sandbox(sandbox))
    }
}
