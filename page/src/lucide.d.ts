// One icon of Lucide: the elements inside its SVG.
declare module "lucide/dist/esm/icons/*.mjs" {
  const elements: [string, Record<string, string>][];
  export default elements;
}
