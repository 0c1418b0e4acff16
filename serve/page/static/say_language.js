(language, held) => {
  document.documentElement.lang = language;
  return [language, held];
}
