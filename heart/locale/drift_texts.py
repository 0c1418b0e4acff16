"""What people read of drift, in English and Indonesian."""

from heart.schema import Text

DRIFT = {
    "drift_title": Text("Do the last patients look like those that the model learnt from?",
                        "Apakah pasien terakhir mirip dengan pasien yang dipelajari model?"),
    "drift_none": Text(
        "No drift in the last {rows} patients of version {version}.",
        "Tidak ada pergeseran pada {rows} pasien terakhir dari versi {version}.",
    ),
    "drift_found": Text(
        "Drift in the last {rows} patients of version {version}: {names}.",
        "Pergeseran pada {rows} pasien terakhir dari versi {version}: {names}.",
    ),
    "drift_found_how": Text(
        "They are no longer like the training patients: the model's answers may be worse than its "
        "figures say.",
        "Mereka tidak lagi seperti pasien pelatihan: jawaban model bisa lebih buruk daripada angkanya.",
    ),
    "drift_few": Text(
        "{rows} patients of version {version} so far; a verdict needs {minimum}.",
        "Baru {rows} pasien dari versi {version}; penilaian membutuhkan {minimum}.",
    ),
    "drift_unknown": Text(
        "Nothing is known of drift: another process watches for it, the version came without a "
        "reference, or the first look was not taken yet.",
        "Belum ada yang diketahui tentang pergeseran: proses lain yang mengamatinya, versi ini tanpa "
        "acuan, atau pengamatan pertama belum dilakukan.",
    ),
    "drift_how": Text(
        "How far the last patients are from the training patients, in units of the limit: the "
        "line. Chance alone crosses it in at most {share} of streams of {stream} patients.",
        "Seberapa jauh pasien terakhir dari pasien pelatihan, dalam satuan batas: garisnya. Kebetulan "
        "saja melewatinya pada paling banyak {share} dari aliran {stream} pasien.",
    ),
    "drift_flag": Text("drift", "bergeser"),
    "drift_times": Text("{ratio} × limit", "{ratio} × batas"),  # noqa: RUF001
    "drift_score": Text("Predicted risk", "Risiko menurut model"),
    "drift_change": Text(
        "{what} in {now} of the last {rows} patients, {before} in training",
        "{what} pada {now} dari {rows} pasien terakhir, {before} pada pelatihan",
    ),
    "drift_change_known": Text(
        "{what} in {now} of the {known} in whom it is known among the last {rows} patients, "
        "{before} in training",
        "{what} pada {now} dari {known} yang diketahui di antara {rows} pasien terakhir, {before} "
        "pada pelatihan",
    ),
    "drift_missing": Text("Not measured", "Tidak diukur"),
    "drift_other": Text("Any other value", "Nilai lain"),
    "drift_under": Text("Under {edge}", "Di bawah {edge}"),
    "drift_over": Text("Over {edge}", "Di atas {edge}"),
    "drift_before": Text("{rows} training patients", "{rows} pasien pelatihan"),
    "drift_now": Text("the last {rows} patients", "{rows} pasien terakhir"),
}  # fmt: skip
