import { basename } from 'node:path'

/** A name for an app from the name of its folder: what can't stand in a host name becomes a dash. */
export function nameFromFolder(folder: string): string {
  const name = basename(folder)
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[\u0300-\u036f]/g, '')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 50)
    .replace(/-+$/, '')
  return name === '' ? 'app' : name
}

/** The same name with four random letters: for one that somebody has. */
export function withSuffix(name: string, random: () => number = Math.random): string {
  const letters = 'abcdefghjkmnpqrstuvwxyz23456789'
  const suffix = Array.from({ length: 4 }, () => letters[Math.floor(random() * letters.length)])
  return `${name.slice(0, 58).replace(/-+$/, '')}-${suffix.join('')}`
}
