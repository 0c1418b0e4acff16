() => {
  delete document.documentElement.dataset.scoring;
}
