async (_label, language) => {
  // The bytes go with the call, as base64; one more than may be, so that the server sees what is too long.
  const input = document.querySelector("#upload input[type=file]");
  const file = input.files[0];
  if (!file) return [null, language];
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file.slice(0, Number(input.dataset.limit) + 1));
  });
  input.value = "";  // else the same file, once mended, could not be chosen again
  return [url.split(",")[1] ?? "", language];
}
