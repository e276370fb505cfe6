import { appNameIn, type ConfigFile } from '../config/config-file.ts'

/**
 * Whether launch goes by the fly.toml that is there, under a name of its own: one that names no app is meant to be launched, as
 * examples and templates are; one that names an app is taken when somebody says so.
 */
export function isLaunchable(file: ConfigFile, copyConfig: boolean): boolean {
  return copyConfig || appNameIn(file.content) === null
}

/** The same file for this app and region; comments, order and everything else stay. */
export function withNames(
  content: string,
  names: { readonly app: string; readonly primaryRegion: string },
): string {
  const lines = content.split('\n')
  const firstSection = lines.findIndex((line) => /^\s*\[/.test(line))
  const end = firstSection === -1 ? lines.length : firstSection
  const missing: string[] = []
  for (const [key, value] of [
    ['app', names.app],
    ['primary_region', names.primaryRegion],
  ] as const) {
    const at = lines.findIndex((line, n) => n < end && new RegExp(`^\\s*${key}\\s*=`).test(line))
    const line = `${key} = ${JSON.stringify(value)}`
    if (at === -1) missing.push(line)
    else lines[at] = line
  }
  const begin = lines.findIndex((line) => !line.trimStart().startsWith('#'))
  lines.splice(Math.max(0, begin), 0, ...missing)
  return lines.join('\n')
}
