() => {
  // On a phone the answer is below the form.
  const answer = document.getElementById("answer");
  const top = answer.getBoundingClientRect().top;
  if (top < 0 || top > innerHeight / 2) answer.scrollIntoView({ block: "start" });
}
