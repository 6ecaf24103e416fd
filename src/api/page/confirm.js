// The question before a verb, the verb, and what became of it.

import { ask, isOver } from "./ask.js";
import { byId, say } from "./dom.js";

/** Asks, and returns `null` if the operator says no; otherwise the pace that was typed, or an empty text. */
export function confirm({ question, action, isDanger = false, hasPace = false }) {
  const dialog = byId("confirm");
  const opener = document.activeElement;
  byId("question").textContent = question;
  byId("act").textContent = action;
  byId("act").classList.toggle("danger", isDanger);
  byId("pace-field").hidden = !hasPace;
  byId("pace").value = "";
  dialog.returnValue = "cancel";
  dialog.showModal();
  byId("cancel").focus();
  return new Promise(done => {
    const closed = () => {
      if (opener?.isConnected) opener.focus();
      done(dialog.returnValue === "act" ? byId("pace").value : null);
    };
    dialog.addEventListener("close", closed, { once: true });
  });
}

/** Sends Enter in the field of the pace to the action, not to Cancel. */
export function start() {
  byId("pace").addEventListener("keydown", event => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (byId("pace").checkValidity()) byId("confirm").close("act");
  });
}

/** Does what was asked, and says what became of it. `told` makes a sentence of the answer. Returns whether it was done. */
export async function act(method, path, told) {
  try {
    notice(told(await ask(method, path)), false);
    return true;
  } catch (error) {
    if (isOver(error)) return false;
    notice(`That was not done: ${error.message}.`, true);
    return false;
  }
}

export function notice(text, isError) {
  const target = byId("notice");
  target.dataset.isError = isError;
  say(target, text);
}
