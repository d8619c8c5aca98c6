//! Many containers, one after another and some at once, and what an engine holds before and after.

use anyhow::{Context as _, Result, ensure};

use crate::image::BuiltImage;
use crate::starter::{Start, Starter};

/// How many live at once.
const AT_ONCE: usize = 4;

/// One container: started, executed in, removed.
///
/// # Errors
/// When one of these fails.
pub fn live(starter: &dyn Starter, image: &BuiltImage, id: &str) -> Result<()> {
    starter.create(&Start::new(&image.name, id, &["sleep", "1000"]))?;
    let lived = starter.start(id).and_then(|told| {
        told.ok().with_context(|| format!("starting {id}"))?;
        // Its exit code says that it ran; `ctr` may lose the output of what ends at once.
        let told = starter.exec(id, &["sh", "-c", "exit 5"])?;
        ensure!(told.code == 5, "exec in {id}: {told:?}");
        Ok(())
    });
    let removed = starter.remove(id);
    lived.and(removed)
}

/// That many of them.
///
/// # Errors
/// When one of them fails.
pub fn many(starter: &dyn Starter, image: &BuiltImage, count: usize) -> Result<()> {
    let lane = |first: usize| -> Result<()> {
        for at in (first..count).step_by(AT_ONCE) {
            live(starter, image, &format!("many-{at}"))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(move || lane(first))).collect();
        lanes.into_iter().try_for_each(|lane| {
            lane.join().map_err(|_| anyhow::anyhow!("a lane panicked")).and_then(|ended| ended)
        })
    })
}
