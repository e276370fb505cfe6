/** Of the checkout, as `roost --version` says it. The same in every package.json, which a test holds. */
export const VERSION = '0.1.0'

/** Each side of the API says its version in this header, in requests and in replies. */
export const VERSION_HEADER = 'roost-version'

export type VersionDifference =
  /** The major numbers differ: the two do not understand each other. */
  | 'incompatible'
  /** The other one knows more. */
  | 'newer'
  /** The same but for fixes, or older: nothing to say. */
  | 'fine'

/** What another version than ours means; one that is no version means nothing. */
export function versionDifference(ours: string, theirs: string): VersionDifference {
  const [major, minor] = numbersOf(ours)
  const [theirMajor, theirMinor] = numbersOf(theirs)
  if (major === undefined || theirMajor === undefined) return 'fine'
  if (major !== theirMajor) return 'incompatible'
  return (theirMinor ?? 0) > (minor ?? 0) ? 'newer' : 'fine'
}

function numbersOf(version: string): readonly number[] {
  const match = /^(\d{1,6})\.(\d{1,6})(?:\.|$)/.exec(version)
  return match === null ? [] : [Number(match[1]), Number(match[2])]
}
