() => {
  const wanted = (navigator.language || "en").toLowerCase();
  const language = /^(id|in)\b/.test(wanted) ? "id" : "en";
  document.documentElement.lang = language;
  for (const part of ["answer", "scored", "recorded", "drift", "compared"])
    document.getElementById(part)?.setAttribute("aria-live", "polite");
  return [language];
}
