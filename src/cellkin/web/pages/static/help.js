import { begin } from "./shell.js";

begin(async () => {});
