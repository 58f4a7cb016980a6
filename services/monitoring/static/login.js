// Signs in and goes to the page. The session is a cookie that no script can read.
const byId = (name) => document.getElementById(name);

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("go").disabled = true;
  byId("error").textContent = "";
  try {
    const body = JSON.stringify({ user: byId("user").value.trim(), password: byId("password").value });
    const headers = { "Content-Type": "application/json" };
    const response = await fetch("/api/sign-in", { method: "POST", headers, body, signal: AbortSignal.timeout(20_000) });
    const answer = await response.json();
    // 409: nobody signs in here, the page is open.
    if (response.ok || response.status === 409) {
      location.replace("/");
      return;
    }
    byId("error").textContent = `${answer.error.charAt(0).toUpperCase()}${answer.error.slice(1)}.`;
    byId("password").select();
  } catch (error) {
    byId("error").textContent = `The page's server does not answer (${error.message}).`;
  } finally {
    byId("go").disabled = false;
  }
});
