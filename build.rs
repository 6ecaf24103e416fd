//! Takes the two files of Swagger UI that `/docs` needs out of the crate that carries them, compressed for the binary.
//!
//! Nothing is fetched: the crate holds the release's archive. The rest of the archive, most of it, is left behind.

use std::error::Error;
use std::fs::File;
use std::io::{self, Cursor};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipArchive;

/// In the archive's folder `dist`.
const FILES: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let folder = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let mut archive = ZipArchive::new(Cursor::new(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED))?;
    for name in FILES {
        let end = format!("/dist/{name}");
        // The folder around it is named after the version.
        let index = archive.file_names().position(|path| path.is_ok_and(|path| path.ends_with(&end))).ok_or(name)?;
        let mut packed =
            GzEncoder::new(File::create(Path::new(&folder).join(format!("{name}.gz")))?, Compression::best());
        io::copy(&mut archive.by_index(index)?, &mut packed)?;
        packed.finish()?;
    }
    Ok(())
}
