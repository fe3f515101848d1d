"""The words that samples are generated from, by language."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lexicon:
    """Words of one language. ``{}`` in a template is replaced by a name."""

    things: tuple[str, ...]
    """Nouns that statements are about."""
    cues: tuple[str, ...]
    """Words that tell labels apart; each label has some of them to itself."""
    degrees: tuple[str, ...]
    """Six groups of three words, from "not at all" to "entirely"."""
    entities: dict[str, tuple[str, ...]]
    """Names by kind: person, place, group, date, time, quantity, work, product."""
    carriers: dict[str, tuple[str, ...]]
    """Kind → templates with a name of that kind."""
    questions: dict[str, tuple[str, ...]]
    """Kind → questions whose answer is the name of that kind in the context."""


ENGLISH = Lexicon(
    things=tuple(
        "film story actor scene music ending book plot song hotel room meal game match team city "
        "road school plan".split()
    ),
    cues=tuple(
        "great superb lovely brilliant charming splendid awful dreadful boring clumsy dull terrible odd calm bright "
        "loud sharp heavy light quick slow warm cold sweet sour plain rich rough smooth deep thin round clean".split()
    ),
    degrees=tuple(
        "never nowhere none hardly barely scarcely slightly somewhat partly fairly rather moderately "
        "mostly largely nearly entirely fully exactly".split()
    ),
    entities={
        "person": (
            "Anna Berg",
            "John Price",
            "Mary Cole",
            "Paul Stone",
            "Ruth Lane",
            "Carl Wood",
            "Nina Park",
            "Omar Reed",
        ),
        "place": ("London", "Paris", "Berlin", "Rome", "Oslo", "Seoul", "Tokyo", "Lima"),
        "group": ("United Nations", "Red Cross", "City Council", "Royal Society", "Tigers", "Labour Union"),
        "date": ("1912", "1950", "1968", "1974", "1989", "1996", "2003", "2011"),
        "time": ("noon", "midnight", "nine o'clock", "six o'clock"),
        "quantity": ("twelve", "forty", "ninety", "300", "500", "1200"),
        "work": ("Silent River", "Blue Garden", "Last Train", "Golden Hour"),
        "product": ("Model T", "Walkman", "Game Boy", "Jumbo Jet"),
    },
    carriers={
        "person": ("the work was led by {}", "a letter was signed by {}"),
        "place": ("the house stands in {}", "people met in {}"),
        "group": ("money came from the {}", "help was sent by the {}"),
        "date": ("it began in the year {}", "it was built in the year {}"),
        "time": ("doors opened at {}", "it ended at {}"),
        "quantity": ("the number of guests was {}", "the number of rooms is {}"),
        "work": ("visitors saw {} there", "everybody read {} then"),
        "product": ("they sold the {} first", "engineers made the {} here"),
    },
    questions={
        "person": ("Who led the work or signed?", "Who was it?"),
        "place": ("Where did it take place?", "Where was it?"),
        "date": ("When was it?", "In which year did it happen?"),
        "quantity": ("How many were there?", "What was the number?"),
    },
)

KOREAN = Lexicon(
    things=tuple(
        "영화 이야기 배우 장면 음악 결말 책 줄거리 노래 호텔 방 음식 게임 경기 팀 도시 도로 학교 계획".split()
    ),
    cues=tuple(
        "훌륭하다 멋지다 아름답다 감동적이다 즐겁다 최고다 형편없다 지루하다 실망스럽다 어색하다 답답하다 최악이다 "
        "이상하다 조용하다 밝다 시끄럽다 날카롭다 무겁다 가볍다 빠르다 느리다 따뜻하다 차갑다 달다 시다 평범하다 "
        "풍부하다 거칠다 부드럽다 깊다 얇다 둥글다 깨끗하다".split()
    ),
    degrees=tuple(
        "전혀 결코 도무지 거의안 겨우 간신히 조금 약간 다소 꽤 제법 어느정도 "
        "대체로 주로 대부분 완전히 전부 정확히".split()
    ),
    entities={
        "person": ("김민수", "이영희", "박지훈", "최수진", "정현우", "강미래", "윤서준", "한지민"),
        "place": ("서울", "부산", "대구", "인천", "광주", "제주도", "강릉", "평양"),
        "group": ("국제연합", "적십자사", "서울시청", "한국은행", "두산베어스", "국립극장"),
        "date": ("1912년", "1950년", "1968년", "1974년", "1989년", "1996년", "2003년", "2011년"),
        "time": ("정오", "자정", "오전 아홉시", "오후 여섯시"),
        "quantity": ("열두명", "마흔명", "아흔명", "300명", "500명", "1200명"),
        "work": ("고요한 강", "푸른 정원", "마지막 기차", "황금 시간"),
        "product": ("포니", "갤럭시", "초코파이", "신라면"),
    },
    carriers={
        "person": ("그 일을 이끈 사람은 {} 이다", "편지에 서명한 사람은 {} 이다"),
        "place": ("그 집은 {} 에 있다", "사람들은 {} 에서 만났다"),
        "group": ("돈은 {} 에서 나왔다", "도움은 {} 에서 보냈다"),
        "date": ("그것은 {} 에 시작되었다", "그것은 {} 에 세워졌다"),
        "time": ("문은 {} 에 열렸다", "행사는 {} 에 끝났다"),
        "quantity": ("손님은 모두 {} 이었다", "참가자는 모두 {} 이었다"),
        "work": ("관객은 {} 을 보았다", "모두가 {} 을 읽었다"),
        "product": ("회사는 {} 을 팔았다", "기술자는 {} 을 만들었다"),
    },
    questions={
        "person": ("그 사람은 누구인가?", "누가 이끌거나 서명했는가?"),
        "place": ("그곳은 어디인가?", "어디에서 일어난 일인가?"),
        "date": ("그것은 언제인가?", "몇 년에 있었던 일인가?"),
        "quantity": ("모두 몇 명인가?", "사람 수는 얼마인가?"),
    },
)

JAPANESE = Lexicon(
    things=tuple("映画 物語 俳優 場面 音楽 結末 本 筋 歌 宿 部屋 料理 試合 選手 町 道 学校 計画 番組".split()),
    cues=tuple(
        "素晴らしい 見事だ 美しい 感動的だ 楽しい 最高だ ひどい 退屈だ 残念だ ぎこちない つまらない 最悪だ 変だ "
        "静かだ 明るい うるさい 鋭い 重い 軽い 速い 遅い 暖かい 冷たい 甘い 酸っぱい "
        "平凡だ 豊かだ 粗い 柔らかい 深い 薄い 丸い 清潔だ".split()
    ),
    degrees=tuple(
        "全く 決して 少しも ほとんど めったに かろうじて 少し いくらか やや かなり わりと そこそこ "
        "大体 主に 大部分 完全に すべて 正確に".split()
    ),
    entities={
        "person": ("田中太郎", "鈴木花子", "佐藤健", "高橋一郎", "山本愛", "中村誠", "小林翼", "加藤薫"),
        "place": ("東京", "大阪", "京都", "札幌", "福岡", "名古屋", "仙台", "那覇"),
        "group": ("国際連合", "赤十字社", "市役所", "日本銀行", "巨人軍", "国立劇場"),
        "date": ("1912年", "1950年", "1968年", "1974年", "1989年", "1996年", "2003年", "2011年"),
        "time": ("正午", "真夜中", "午前九時", "午後六時"),
        "quantity": ("十二人", "四十人", "九十人", "300人", "500人", "1200人"),
        "work": ("静かな川", "青い庭", "最後の列車", "黄金の時"),
        "product": ("新幹線", "写真機", "電卓", "即席麺"),
    },
    carriers={
        "person": ("その仕事を率いたのは {} だ", "手紙に署名したのは {} だ"),
        "place": ("その家は {} にある", "人々は {} で会った"),
        "group": ("お金は {} から出た", "助けは {} から来た"),
        "date": ("それは {} に始まった", "それは {} に建てられた"),
        "time": ("扉は {} に開いた", "催しは {} に終わった"),
        "quantity": ("客は全部で {} だった", "参加者は全部で {} だった"),
        "work": ("観客は {} を見た", "皆が {} を読んだ"),
        "product": ("会社は {} を売った", "技師は {} を作った"),
    },
    questions={
        "person": ("それは誰ですか？", "誰が率いたり署名したりしましたか？"),
        "place": ("それはどこですか？", "どこで起きましたか？"),
        "date": ("それはいつですか？", "何年のことですか？"),
        "quantity": ("全部で何人ですか？", "人数はいくつですか？"),
    },
)

LEXICA = {"en": ENGLISH, "ko": KOREAN, "ja": JAPANESE}
