() => {
  // The bounds of the field are those of the chosen unit.
  const ranges = __RANGES__;
  const apply = () => {
    const unit = document.querySelector("#cholesterol_unit input:checked")?.value;
    const input = document.querySelector("#cholesterol input");
    if (!ranges[unit] || !input) return;
    [input.min, input.max] = ranges[unit];
    input.step = unit === __MMOL__ ? "0.01" : "1";
  };
  for (const event of ["change", "inputs", "pageshow"]) addEventListener(event, apply);
  apply();
}
