(language, ...others) => {
  document.documentElement.lang = language;
  return [language, ...others];
}
