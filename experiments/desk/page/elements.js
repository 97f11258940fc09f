// Short ways to the elements of the page.

export function find(selector) {
  return document.querySelector(selector);
}

/** Show a text, or nothing at all where there is none. */
export function say(selector, text) {
  const element = find(selector);
  element.textContent = text;
  element.hidden = !text;
}
