//! Tasks with an owner.

use tokio::task::JoinHandle;

/// A task that ends with its owner.
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    /// Starts a task.
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// Ends the task and waits until it has: afterwards it does nothing more.
    pub(crate) async fn stop(mut self) {
        self.0.abort();
        self.ended().await;
    }

    /// Waits until the task has ended.
    pub(crate) async fn ended(&mut self) {
        // It fails if the task was aborted, which is an end too.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
