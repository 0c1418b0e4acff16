() => {
  const tags = __TAGS__;
  const tag = (navigator.language || "").toLowerCase().split("-")[0];
  const language = tags[tag] ?? __DEFAULT__;
  document.documentElement.lang = language;
  for (const part of ["answer", "scored", "recorded", "drift", "comparison"])
    document.getElementById(part)?.setAttribute("aria-live", "polite");
  return [language];
}
