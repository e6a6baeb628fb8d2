// Plain, old JavaScript: it must run on the versions that it refuses.
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `This is Node ${process.versions.node}; the relayer needs 22.18 or later. \`npm ci\` installs one beside it ` +
      "(the package `node`), unless install scripts are off: run `npm ci --ignore-scripts=false`, or install a newer Node.",
  );
  process.exit(1);
}
