//! Takes what `/docs` needs of Swagger UI, and its licence, out of the crate that carries it, compressed for the binary.
//!
//! Nothing is fetched: the crate holds the release's archive. The rest of the archive, most of it, is left behind.

use std::error::Error;
use std::fs::File;
use std::io::{self, Cursor};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipArchive;

/// By their ends in the archive. Its licence (Apache-2.0, 4) asks that the last two go wherever the others go.
const FILES: [&str; 4] = ["/dist/swagger-ui.css", "/dist/swagger-ui-bundle.js", "/LICENSE", "/NOTICE"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let folder = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let mut archive = ZipArchive::new(Cursor::new(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED))?;
    for end in FILES {
        // The folder around it is named after the version.
        let index = archive.file_names().position(|path| path.is_ok_and(|path| path.ends_with(end))).ok_or(end)?;
        let name = Path::new(end).file_name().ok_or(end)?.display();
        let packed = File::create(Path::new(&folder).join(format!("{name}.gz")))?;
        let mut packed = GzEncoder::new(packed, Compression::best());
        io::copy(&mut archive.by_index(index)?, &mut packed)?;
        packed.finish()?;
    }
    Ok(())
}
