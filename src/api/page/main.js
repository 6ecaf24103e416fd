// The operators' page: the sign-in, and the events that all parts show.

import { Failure, ask, canBeToken, forgetToken, isOver, keepToken, newSession, token } from "./ask.js";
import * as confirm from "./confirm.js";
import { byId, say } from "./dom.js";
import * as letters from "./letters.js";
import { follow } from "./live.js";
import * as overview from "./overview.js";
import * as parked from "./parked.js";
import * as search from "./search.js";
import * as tiles from "./tiles.js";

const parts = [tiles, overview, letters, parked];

let stop = () => {};

for (const part of [tiles, letters, parked, search, confirm]) part.start();
byId("sign-in").addEventListener("submit", signIn);
byId("sign-out").addEventListener("click", () => signOut(""));
if (token()) open();
else signOut("");

async function signIn(event) {
  event.preventDefault();
  const typed = byId("token").value.trim();
  if (!canBeToken(typed)) return signOut("This is not the admin token.");
  newSession();
  keepToken(typed);
  try {
    await ask("GET", "status");
    byId("token").value = "";
    open();
    byId("summary").focus();
  } catch (error) {
    if (isOver(error)) return;
    const isWrong = error instanceof Failure && error.status === 401;
    signOut(isWrong ? "This is not the admin token." : `Signing in failed: ${error.message}.`);
  }
}

/** Forgets the token and all that was shown, and asks for the token. */
function signOut(why) {
  stop();
  newSession();
  forgetToken();
  shows("sign-in");
  for (const part of [letters, parked, search]) part.clear();
  tiles.start();
  say(byId("summary"), "");
  if (byId("confirm").open) byId("confirm").close("cancel");
  confirm.notice("", false);
  say(byId("sign-in-error"), why);
  document.title = "segment-relay";
  byId("token").focus();
}

/** Shows the relay, and follows its events. */
function open() {
  stop();
  shows("relay");
  say(byId("sign-in-error"), "");
  connection("connecting", "Connecting");
  stop = follow({
    connected: () => connection("live", "Live"),
    lost: why => connection("lost", `Connection lost; trying again${why ? ` (${why})` : ""}`),
    unauthorized: () => signOut("The admin token is another one now."),
    history: tiles.takeHistory,
    point: point => {
      tiles.takePoint(point);
      parked.refresh();
    },
    status: status => parts.forEach(part => part.show(status)),
  });
}

function shows(what) {
  const isOpen = what === "relay";
  byId("sign-in").hidden = isOpen;
  for (const id of ["relay", "connection", "sign-out"]) byId(id).hidden = !isOpen;
}

function connection(state, text) {
  document.body.dataset.connection = state;
  say(byId("connection"), text);
}
