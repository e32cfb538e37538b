// The API key: typed once per tab, and shown to the engine with what asks for it.

const KEY = "fanfare-api-key";
const $ = (id) => document.getElementById(id);

/** Whether it can stand in a header. No key that the engine takes has other characters. */
const isSendable = (key) => /^[\x21-\x7e]+$/.test(key);

/** The header that shows the key, if there is one. */
export function keyHeaders() {
  const key = sessionStorage.getItem(KEY);
  return key ? { "x-api-key": key } : {};
}

/** Asks for the key, or does not any more. */
export function askForKey(wanted) {
  $("key-form").hidden = !wanted;
}

/** The engine has refused a request with these headers. It may have been sent before somebody typed the right key. */
export function keyRefused(headers) {
  const key = sessionStorage.getItem(KEY);
  if (key !== null && key !== headers["x-api-key"]) return;
  sessionStorage.removeItem(KEY);
  if (!$("key-form").hidden) return;
  askForKey(true);
  $("key-input").focus();
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key-input").value.trim();
  if (!isSendable(key)) {
    $("key-input").setCustomValidity("A key has letters, digits and signs of ASCII, and no spaces.");
    $("key-input").reportValidity();
    return;
  }
  sessionStorage.setItem(KEY, key);
  $("key-input").value = "";
  askForKey(false);
});

$("key-input").addEventListener("input", () => $("key-input").setCustomValidity(""));
