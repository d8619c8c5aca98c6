//! The scanner's process: takes a job, confines itself, reads the image, tells what it found.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use portcullis_inventory::Layer;
use portcullis_inventory::protocol::{Asked, Job, Said};
use portcullis_types::{Digest, with_causes};

use crate::detect::Detectors;
use crate::gather::Gatherer;
use crate::link::Link;
use crate::packages::Tools;
use crate::source::{self, Reading};
use crate::{confine, engines};

/// Takes a job and does it. `true` if it was done.
///
/// # Errors
/// Whoever gave the job is not there any more, or said nothing that could be understood.
pub fn serve(link: Link) -> io::Result<bool> {
    let job: Job = link.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let link = Rc::new(link);
    let done = work(&job, &link);
    let is_done = done.is_ok();
    link.send(&done.map_or_else(Said::Failed, |()| Said::Done))?;
    Ok(is_done)
}

fn work(job: &Job, link: &Rc<Link>) -> Result<(), String> {
    let scratch = File::open(&job.scratch)
        .map_err(|error| format!("the scratch folder cannot be opened: {error}"))?;
    // Rules come from the node's own administrator.
    let (mut detectors, versions) = engines::prepare(job, link)?;
    let confined = confine::enter(job).map_err(|error| with_causes(&error))?;
    let opened = source::open(job).map_err(|error| with_causes(&error))?;
    let image = opened.image.clone();
    let told = Said::Image { image, confined, engines: versions };
    link.send(&told).map_err(|error| with_causes(&error))?;
    let asked: Option<Asked> = link.receive().map_err(|error| with_causes(&error))?;
    let Some(asked) = asked else { return Err("nobody asked for layers".to_owned()) };
    let tools = Tools::new();
    let mut reading =
        Told { tools: &tools, detectors: &mut detectors, job, scratch: &scratch, link };
    let read = opened.read(&asked.layers, &job.limits, &mut reading);
    read.map_err(|error| with_causes(&error))
}

/// Tells what was read as it comes.
struct Told<'t> {
    tools: &'t Tools,
    detectors: &'t mut Detectors,
    job: &'t Job,
    scratch: &'t File,
    link: &'t Link,
}

impl Reading for Told<'_> {
    fn gatherer(&mut self, layer: usize) -> Gatherer<'_> {
        let link = self.link;
        let layer = u32::try_from(layer).unwrap_or(u32::MAX);
        let progress = move |bytes| {
            // Whether anybody hears it shows when the layer is told.
            let _ = link.send(&Said::Progress { layer, bytes });
        };
        let scratch = self.scratch.as_fd();
        Gatherer::new(self.tools, self.detectors, &self.job.limits, scratch, Box::new(progress))
    }

    fn done(&mut self, diff_id: Option<&Digest>, layer: Layer) -> io::Result<()> {
        self.link.send(&Said::Layer { diff_id: diff_id.cloned(), layer })
    }
}
