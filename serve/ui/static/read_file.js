async (_label, language, coding) => {
  // The call has the content as base64. One byte over the limit lets the server reject a longer file.
  const input = document.querySelector("#upload input[type=file]");
  const file = input.files[0];
  if (!file) return [null, language, coding];
  document.documentElement.dataset.scoring = "";
  document.querySelector("#upload [data-file]").textContent = file.name;
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file.slice(0, Number(input.dataset.limit) + 1));
  });
  input.value = "";  // else the same file could not be chosen again after a correction
  return [url.split(",")[1] ?? "", language, coding];
}
