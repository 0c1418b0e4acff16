(unit, value) => {
  // The ranges of the units do not overlap: a number that is valid in the chosen unit was typed for it,
  // and one that is valid in the other is converted. Doing this twice changes nothing.
  const ranges = __RANGES__;
  const within = ([low, high]) => low <= value && value <= high;
  if (typeof value !== "number" || within(ranges[unit])) return value;
  const [other] = Object.keys(ranges).filter((name) => name !== unit);
  if (!within(ranges[other])) return value;
  const converted = unit === __MMOL__ ? value / __FACTOR__ : value * __FACTOR__;
  return Number(converted.toFixed(unit === __MMOL__ ? 2 : 0));
}
