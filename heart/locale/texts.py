"""What people read, in English and Indonesian: the words of the page and of what the server answers.

Texts about a measurement (labels, choices) come from the schema.
"""

from heart.schema import Text

UNITS = {
    "years": Text("years", "tahun"),
    "mm Hg": Text("mm Hg", "mm Hg"),
    "mg/dl": Text("mg/dl", "mg/dl"),
    "beats/min": Text("beats/min", "denyut/menit"),
    "mm": Text("mm", "mm"),
    "vessels": Text("vessels", "pembuluh"),
}

# Handed to the browser as they are: no placeholders in these.
FORM = {
    "title": Text("Risk of coronary artery disease", "Risiko penyakit arteri koroner"),
    "language": Text("Language", "Bahasa"),
    "tab_patient": Text("One patient", "Satu pasien"),
    "tab_table": Text("Table of patients", "Tabel pasien"),
    "tab_outcome": Text("Record an outcome", "Catat hasil"),
    "tab_drift": Text("Drift", "Pergeseran"),
    "tab_about": Text("About the model", "Tentang model"),
    "group_patient": Text("Patient", "Pasien"),
    "group_blood": Text("Blood tests", "Tes darah"),
    "group_ecg": Text("ECG and exercise test", "EKG dan uji latih"),
    "group_second_exam": Text("Second examination", "Pemeriksaan kedua"),
    "not_measured": Text("Not measured", "Tidak diukur"),
    "predict": Text("Assess the risk", "Nilai risiko"),
    "clear": Text("Clear the form", "Kosongkan"),
    "examples": Text("Examples to fill in", "Contoh untuk diisikan"),
    "example_low": Text("Woman, 45, normal findings", "Perempuan, 45, temuan normal"),
    "example_middle": Text("Man, 57, first examination", "Laki-laki, 57, pemeriksaan awal"),
    "example_high": Text("Man, 67, all examinations", "Laki-laki, 67, semua pemeriksaan"),
    "example_little": Text("Woman, 62, little known", "Perempuan, 62, data sedikit"),
    "upload": Text("CSV file of patients", "Berkas CSV pasien"),
    "prediction_id": Text("Prediction id", "Id prediksi"),
    "prediction_id_info": Text(
        "32 characters, shown with every answer", "32 karakter, tampil di setiap jawaban"
    ),
    "outcome": Text("Outcome: coronary artery disease", "Hasil: penyakit arteri koroner"),
    "source": Text("Known from", "Diketahui dari"),
    "source_angiography": Text("Angiography", "Angiografi"),
    "source_clinician": Text("Clinician's diagnosis", "Diagnosis dokter"),
    "source_registry": Text("Registry", "Registri"),
    "replace": Text("Overwrite a different outcome", "Timpa hasil yang berbeda"),
    "record": Text("Record the outcome", "Catat hasil"),
    "drift_feature": Text("Compare", "Bandingkan"),
    "drift_largest": Text("What has changed most", "Yang paling berubah"),
    "look_again": Text("Look again", "Lihat lagi"),
}

MESSAGES = {
    # --- before an answer, and instead of one
    "empty": Text(
        "Fill in what is known of the patient, then choose “Assess the risk”. "
        "The answer appears here.",
        "Isi apa yang diketahui tentang pasien, lalu pilih “Nilai risiko”. Jawabannya muncul di sini.",
    ),
    "answer": Text("Answer", "Jawaban"),
    "check": Text("Please check these fields", "Periksa isian berikut"),
    "required": Text("{label} is needed.", "{label} wajib diisi."),
    "refused": Text(
        "{label} is {value}; expected {expected}.", "{label} berisi {value}; seharusnya {expected}."
    ),
    "whole": Text("a whole number from {low} to {high}", "bilangan bulat dari {low} sampai {high}"),
    "number": Text("a number from {low} to {high}", "angka dari {low} sampai {high}"),
    "one_of": Text("one of {choices}", "salah satu dari {choices}"),
    "unavailable": Text(
        "The service cannot answer now. Nothing was lost; please try again in a moment.",
        "Layanan belum dapat menjawab. Tidak ada yang hilang; coba lagi sebentar lagi.",
    ),
    "changed": Text(
        "The model has changed since. Please assess the risk again.",
        "Model telah berganti. Nilai risiko sekali lagi.",
    ),
    "stale": Text(
        "The inputs have changed: this answer belongs to earlier ones. Press “Assess the risk” again.",
        "Isian telah berubah: jawaban ini untuk isian sebelumnya. Tekan “Nilai risiko” lagi.",
    ),
    # --- the answer
    "risk": Text("Estimated risk", "Perkiraan risiko"),
    "interval": Text("95% interval {low} to {high}", "interval 95% {low} sampai {high}"),
    "no_interval": Text("This model states no interval.", "Model ini tidak menyatakan interval."),
    "interval_how": Text(
        "The interval is the uncertainty of the model's coefficients, having seen few patients "
        "(Laplace approximation). It is not the uncertainty about what this patient has.",
        "Interval ini adalah ketidakpastian koefisien model karena sedikitnya pasien yang dipelajari "
        "(aproksimasi Laplace), bukan ketidakpastian tentang keadaan pasien ini.",
    ),
    "presence": Text(
        "At or above the threshold of {threshold}", "Pada atau di atas ambang {threshold}"
    ),
    "absence": Text("Below the threshold of {threshold}", "Di bawah ambang {threshold}"),
    "gauge": Text(
        "Risk {risk} on a scale from 0% to 100%; average for the same age and sex {average}; "
        "threshold {threshold}.",
        "Risiko {risk} pada skala 0% sampai 100%; rata-rata usia dan jenis kelamin sama {average}; "
        "ambang {threshold}.",
    ),
    "this_patient": Text("this patient", "pasien ini"),
    "average": Text("average, same age and sex", "rata-rata, usia dan jenis kelamin sama"),
    "threshold": Text("threshold", "ambang"),
    "frequency": Text("{count} of 100 people like this", "{count} dari 100 orang seperti ini"),
    "frequency_rest": Text(
        "are expected to have coronary artery disease, {rest} are not. Among people of the same age "
        "and sex who are examined for it: {average} of 100.",
        "diperkirakan menderita penyakit arteri koroner, {rest} tidak. Di antara orang dengan usia "
        "dan jenis kelamin sama yang diperiksa: {average} dari 100.",
    ),
    "icons": Text(
        "One hundred circles, {count} of them filled.",
        "Seratus lingkaran, {count} di antaranya terisi.",
    ),
    "moved": Text("What moved the risk", "Apa yang mengubah risiko"),
    "moved_how": Text(
        "In percentage points, from the average examined patient ({average}) to this one ({risk}).",
        "Dalam poin persen, dari rata-rata pasien yang diperiksa ({average}) ke pasien ini ({risk}).",
    ),
    "raises": Text("raises", "menaikkan"),
    "lowers": Text("lowers", "menurunkan"),
    "given": Text("{given} of {all} measurements given", "{given} dari {all} pengukuran diberikan"),
    "all_given": Text("Nothing is missing.", "Tidak ada yang kosong."),
    "missing_how": Text(
        "How far the risk could move with each of the missing ones:",
        "Seberapa jauh risiko dapat berubah oleh tiap pengukuran yang kosong:",
    ),
    "range": Text("{low} to {high}", "{low} sampai {high}"),
    "unusual": Text(
        "{label}: {value} is outside the {low} to {high} of the patients that the model learnt "
        "from; the answer is less certain than it looks.",
        "{label}: {value} berada di luar {low} sampai {high} pada pasien yang dipelajari model; "
        "jawabannya kurang pasti daripada kelihatannya.",
    ),
    "sentence_higher": Text(
        "The model puts the risk of this {who} at {risk}, higher than the {average} that is average "
        "for the same age and sex",
        "Model memperkirakan risiko {who} ini {risk}, lebih tinggi daripada rata-rata {average} untuk "
        "usia dan jenis kelamin yang sama",
    ),
    "sentence_lower": Text(
        "The model puts the risk of this {who} at {risk}, lower than the {average} that is average "
        "for the same age and sex",
        "Model memperkirakan risiko {who} ini {risk}, lebih rendah daripada rata-rata {average} untuk "
        "usia dan jenis kelamin yang sama",
    ),
    "sentence_same": Text(
        "The model puts the risk of this {who} at {risk}, about the average for the same age and sex",
        "Model memperkirakan risiko {who} ini {risk}, kira-kira sama dengan rata-rata untuk usia dan "
        "jenis kelamin yang sama",
    ),
    "sentence_up": Text("; what raises it most is: {label}", "; yang paling menaikkannya: {label}"),
    "sentence_down": Text(
        "; what lowers it most is: {label}", "; yang paling menurunkannya: {label}"
    ),
    "who_male": Text("man of {age}", "laki-laki berusia {age} tahun"),
    "who_female": Text("woman of {age}", "perempuan berusia {age} tahun"),
    "id": Text("Prediction id", "Id prediksi"),
    "id_use": Text("Keep it to record the outcome later.", "Simpan untuk mencatat hasilnya nanti."),
    # --- the table
    "table_intro": Text(
        "One line a patient, columns named as below, at most {rows} patients and 2 MiB. An empty cell "
        "is “not measured”. Also allowed, and handed back: {echoed}. If any line has an error, nothing "
        "is scored. Neither the file nor the scored one is kept on the server.",
        "Satu baris per pasien, nama kolom seperti di bawah, paling banyak {rows} pasien dan 2 MiB. "
        "Sel kosong berarti “tidak diukur”. Boleh ada, dan dikembalikan: {echoed}. Jika ada baris "
        "yang salah, tidak ada yang dinilai. Berkas dan hasilnya tidak disimpan di server.",
    ),
    "columns": Text("Columns and what they take", "Kolom dan isinya"),
    "column": Text("Column", "Kolom"),
    "meaning": Text("Meaning", "Arti"),
    "takes": Text("Takes", "Isi"),
    "scored": Text("Patients scored: {rows}", "Pasien dinilai: {rows}"),
    "scored_first": Text("The first {shown}:", "{shown} yang pertama:"),
    "download": Text("Download the scored CSV", "Unduh CSV hasil"),
    "bad_table": Text(
        "Nothing was scored; errors: {errors}", "Tidak ada yang dinilai; kesalahan: {errors}"
    ),
    "bad_first": Text("The first {shown} by line:", "{shown} yang pertama menurut baris:"),
    "line": Text("Line", "Baris"),
    "problem": Text("Problem", "Masalah"),
    "not_text": Text("The file is not UTF-8 text.", "Berkas bukan teks UTF-8."),
    "not_csv": Text("This cannot be read as CSV.", "Ini tidak dapat dibaca sebagai CSV."),
    "no_rows": Text("The file has no patients.", "Berkas tidak berisi pasien."),
    "too_many": Text("More than {rows} patients.", "Lebih dari {rows} pasien."),
    "too_large": Text("The file is larger than 2 MiB.", "Berkas lebih besar dari 2 MiB."),
    "no_column": Text("The column {column} is missing.", "Kolom {column} tidak ada."),
    "unknown_column": Text("The column {column} is not known.", "Kolom {column} tidak dikenal."),
    "twice": Text("The column {column} is there twice.", "Kolom {column} ada dua kali."),
    "width": Text("{found} cells, expected {expected}.", "{found} sel, seharusnya {expected}."),
    # --- outcomes
    "outcome_intro": Text(
        "What a patient turned out to have is what the model is judged by and learns from.",
        "Hasil sebenarnya dari pasien dipakai untuk menilai dan melatih model.",
    ),
    "created": Text("The outcome is recorded.", "Hasil telah dicatat."),
    "same": Text("This outcome was recorded already.", "Hasil ini sudah tercatat sebelumnya."),
    "replaced": Text("The outcome was replaced.", "Hasil telah diganti."),
    "conflict": Text(
        "A different outcome is recorded. Tick “Overwrite a different outcome” to replace it.",
        "Hasil yang berbeda sudah tercatat. Centang “Timpa hasil yang berbeda” untuk menggantinya.",
    ),
    "unknown_id": Text("There is no prediction with this id.", "Tidak ada prediksi dengan id ini."),
    "bad_id": Text(
        "A prediction id has 32 characters, 0 to 9 and a to f.",
        "Id prediksi terdiri dari 32 karakter, 0 sampai 9 dan a sampai f.",
    ),
    "stale_outcome": Text(
        "The entries have changed: this message belongs to earlier ones.",
        "Isian telah berubah: pesan ini untuk isian sebelumnya.",
    ),
    "choose": Text("Choose an outcome and its source.", "Pilih hasil dan sumbernya."),
    # --- about
    "version": Text("Version", "Versi"),
    "run": Text("Run", "Run"),
    "figures": Text("Figures on {rows} held-out patients", "Angka pada {rows} pasien uji"),
    "figures_how": Text(
        "Real patients that the model never saw, {presence} of them with the disease; 95% bootstrap "
        "intervals.",
        "Pasien nyata yang tidak pernah dilihat model, {presence} di antaranya sakit; interval "
        "bootstrap 95%.",
    ),
    "no_figures": Text(
        "No figures came with this version.", "Tidak ada angka yang menyertai versi ini."
    ),
    "figure": Text("Figure", "Ukuran"),
    "value": Text("Value", "Nilai"),
    "calibration": Text("Calibration", "Kalibrasi"),
    "calibration_how": Text(
        "Each circle is a group of patients, larger where they are more; on the diagonal, as many have "
        "the disease as the model said.",
        "Tiap lingkaran adalah sekelompok pasien, lebih besar bila lebih banyak; pada diagonal, yang "
        "sakit sebanyak kata model.",
    ),
    "predicted": Text("Predicted risk", "Risiko menurut model"),
    "observed": Text("Share with the disease", "Bagian yang sakit"),
    "patients": Text("Patients", "Pasien"),
    "groups": Text("By group", "Menurut kelompok"),
    "group": Text("Group", "Kelompok"),
    "groups_how": Text(
        "Few patients in a group make its figures uncertain: see the intervals.",
        "Kelompok dengan sedikit pasien membuat angkanya tidak pasti: lihat intervalnya.",
    ),
    "made_of": Text(
        "Learnt from patients of the Cleveland Clinic who were examined for coronary artery disease "
        "in the 1980s. People who have no reason to be examined are at lower risk than it says.",
        "Dipelajari dari pasien Cleveland Clinic yang diperiksa untuk penyakit arteri koroner pada "
        "1980-an. Orang tanpa alasan untuk diperiksa berisiko lebih rendah daripada angka ini.",
    ),
    # --- everywhere
    "note": Text(
        "Not a medical device. For research and teaching; no basis for a decision about a patient.",
        "Bukan alat medis. Untuk penelitian dan pengajaran; bukan dasar keputusan tentang pasien.",
    ),
    "model_version": Text("Model version {version}", "Model versi {version}"),
    "no_model": Text("No model is loaded.", "Belum ada model yang dimuat."),
    "waiting": Text("The page is starting …", "Halaman sedang dimulai …"),
    "waiting_how": Text(
        "It will open by itself within seconds.", "Halaman terbuka sendiri dalam beberapa detik."
    ),
    "broken": Text(
        "The page could not be started. The API works; see the server's log.",
        "Halaman tidak dapat dimulai. API tetap bekerja; lihat log server.",
    ),
    "stale_page": Text(
        "This page is out of date. Please load it again.",
        "Halaman ini sudah usang. Muat ulang halaman ini.",
    ),
    "page_fault": Text(
        "Internal server error; the server's log has its place. Please try again.",
        "Kesalahan internal server; tempatnya ada di log server. Coba lagi.",
    ),
    "password": Text(
        "Password: the access token of this service. Any user name.",
        "Kata sandi: token akses layanan ini. Nama pengguna bebas.",
    ),
}

FIGURES = {
    "roc_auc": Text("ROC AUC (1 is best, 0.5 is chance)", "ROC AUC (1 terbaik, 0,5 kebetulan)"),
    "accuracy": Text("Accuracy", "Akurasi"),
    "recall": Text("Sensitivity", "Sensitivitas"),
    "precision": Text("Positive predictive value", "Nilai prediksi positif"),
    "brier": Text("Brier score (0 is best)", "Skor Brier (0 terbaik)"),
    "log_loss": Text("Log loss (0 is best)", "Log loss (0 terbaik)"),
    "ece": Text("Calibration error (0 is best)", "Galat kalibrasi (0 terbaik)"),
}

GROUPS = {
    "sex_female": Text("Women", "Perempuan"),
    "sex_male": Text("Men", "Laki-laki"),
    "age_under_50": Text("Under 50", "Di bawah 50"),
    "age_50_to_59": Text("50 to 59", "50 sampai 59"),
    "age_60_and_over": Text("60 and over", "60 ke atas"),
}
