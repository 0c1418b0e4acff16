(language, ...others) => {
  document.documentElement.lang = language;
  const place = new URLSearchParams(location.hash.slice(1));
  place.set("lang", language);
  history.replaceState(history.state, "", `#${place}`);
  return [language, ...others];
}
