/* Texts in sight whose contrast with what lies behind them is below 4.5 (WCAG 2, level AA): [ratio, text, tag, colour]. */
() => {
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const parse = (text) => {
    const numbers = (text.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
    if (text.startsWith("color(srgb")) for (const i of [0, 1, 2]) numbers[i] *= 255;
    return numbers.length > 3 ? numbers : [...numbers, 1];
  };
  const over = (front, behind) => [0, 1, 2].map((i) => front[i] * front[3] + behind[i] * (1 - front[3]));
  const ground = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((behind, colour) => over(colour, behind), [255, 255, 255]);
  };
  // A slider's value is a child of its thumb and lies beside it; what is switched off need not be read; icons are no text.
  const left = "style, script, [disabled], [aria-disabled=true], .katex-mathml, [data-testid=stIconMaterial], [data-testid=stSliderThumbValue]";
  const found = [];
  const walker = document.createTreeWalker(document.querySelector("[data-testid=stApp]"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || element.closest(left) || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const style = getComputedStyle(element), drawn = element instanceof SVGElement;
    const colour = parse(drawn ? style.fill : style.color);
    colour[3] *= drawn ? Number(style.fillOpacity) : 1;
    for (let one = element; one; one = one.parentElement) colour[3] *= Number(getComputedStyle(one).opacity);
    const behind = ground(element);
    const [light, dark] = [luminance(over(colour, behind)), luminance(behind)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) found.push([ratio.toFixed(2), text.slice(0, 60), element.tagName, drawn ? style.fill : style.color]);
  }
  return found;
}
