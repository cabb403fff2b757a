// For whoever loads the module by hand.
export { load } from "./gate.js";
