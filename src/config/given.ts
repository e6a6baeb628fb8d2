import { z } from "zod";
import type { ConfigDocument } from "./document.ts";
import { type Environment, fromEnvironment } from "./environment.ts";
import { nearest } from "./nearest.ts";
import { schema, settingPaths } from "./schema.ts";
import { kindOf } from "./shown.ts";

export interface Section {
  readonly [key: string]: unknown;
}

/** What YAML and environment name together, not yet read: every section is there, only known and named settings are. */
export interface Given {
  readonly settings: Section;
  readonly faults: readonly string[];
  /** A setting and where its value came from: `relay.batch_size (config.yaml:14)`, `PORT (environment)`. */
  origin(path: readonly string[]): string;
}

export function gather(document: ConfigDocument, env: Environment): Given {
  const faults: string[] = [];
  const variables = new Map<string, string>();
  const origin = (path: readonly string[]): string => {
    const variable = variables.get(JSON.stringify(path));
    if (variable !== undefined) return `${variable} (environment)`;
    return path.length === 0 ? document.where(path) : `${path.join(".")} (${document.where(path)})`;
  };
  return { settings: gatherObject(schema, document.root, []), faults, origin };

  function gatherAny(type: z.ZodType, raw: unknown, path: readonly string[]): unknown {
    if (type instanceof z.ZodObject) return gatherObject(type, raw, path);
    if (type instanceof z.ZodRecord) return gatherGateways(type, raw, path);
    const variable = fromEnvironment(env, path);
    if (variable === undefined) return raw ?? undefined;
    variables.set(JSON.stringify(path), variable.name);
    return variable.value;
  }

  function gatherObject(type: z.ZodObject, raw: unknown, path: readonly string[]): Section {
    const section = asSection(raw, path);
    const known = Object.keys(type.shape);
    for (const key of Object.keys(section)) {
      if (!known.includes(key)) faults.push(`${origin([...path, key])}: ${unknownSetting(key, path, known)}`);
    }
    return Object.fromEntries(
      Object.entries<z.ZodType>(type.shape)
        .map(([key, child]) => [key, gatherAny(child, own(section, key), [...path, key])] as const)
        .filter(([, value]) => value !== undefined),
    );
  }

  function gatherGateways(type: z.ZodRecord, raw: unknown, path: readonly string[]): Section {
    const section = asSection(raw, path);
    const names = new Set(["default", ...Object.keys(section)]);
    const gateway = type.valueType;
    if (!(gateway instanceof z.ZodObject)) throw new TypeError("a gateway is a section");
    return Object.fromEntries(
      [...names].map((name) => [name, gatherObject(gateway, own(section, name), [...path, name])]),
    );
  }

  /** Nothing is an empty section: that is what commenting out all of its settings leaves. */
  function asSection(raw: unknown, path: readonly string[]): Section {
    if (raw === undefined || raw === null) return {};
    if (isSection(raw)) return raw;
    faults.push(`${origin(path)}: ${kindOf(raw)} is not a section (settings, each on a line as name: value)`);
    return {};
  }
}

/** A section of what `gather` gave. */
export function sectionOf(settings: Section, key: string): Section {
  const section = own(settings, key);
  return isSection(section) ? section : {};
}

function isSection(value: unknown): value is Section {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function own(section: Section, key: string): unknown {
  return Object.hasOwn(section, key) ? section[key] : undefined;
}

function unknownSetting(key: string, path: readonly string[], siblings: readonly string[]): string {
  const sibling = nearest(key, siblings);
  if (sibling !== undefined) return `unknown; did you mean ${[...path, sibling].join(".")}?`;
  const paths = settingPaths().filter((each) => !each.includes("*"));
  // Written in the wrong section, or with its section before a dot.
  const elsewhere = paths.find((each) => each.at(-1) === key || each.join(".") === key);
  return elsewhere === undefined
    ? `unknown; known here are ${siblings.join(", ")}`
    : `unknown; did you mean ${elsewhere.at(-1)} in the section ${elsewhere.slice(0, -1).join(".")}?`;
}
